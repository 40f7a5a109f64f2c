"""What DescribeEndpoint answers: which members there are while an endpoint is made, serves and is updated."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

Document = dict[str, Any]

GROUPS = ("ProductionVariants", "ShadowProductionVariants")


def described_endpoint(name: str, arn: str, config: Mapping[str, Any], request: Mapping[str, Any]) -> Document:
    """An endpoint that was just asked for; what its configuration leaves out is left out here as well."""
    described: Document = {
        "EndpointName": name,
        "EndpointArn": arn,
        "EndpointConfigName": config["EndpointConfigName"],
        "EndpointStatus": "Creating",
        **from_config(config),
    }
    if "DeploymentConfig" in request:
        described["LastDeploymentConfig"] = request["DeploymentConfig"]
    return described


def from_config(config: Mapping[str, Any]) -> Document:
    """The members that repeat the endpoint configuration."""
    described: Document = {
        member: config[member]
        for member in ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig")
        if member in config
    }
    capture = config.get("DataCaptureConfig")
    if capture is not None:
        enabled = bool(capture.get("EnableCapture", False))
        described["DataCaptureConfig"] = {
            "EnableCapture": enabled,
            "CaptureStatus": "Started" if enabled else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    return described


def variant_counts(config: Mapping[str, Any]) -> Document:
    """What an update shall lead to, per variant."""
    return {
        "StartTime": time.time(),
        **{member: [_pending(variant) for variant in config[member]] for member in GROUPS if member in config},
    }


def _pending(variant: Mapping[str, Any]) -> Document:
    pending = {
        "VariantName": variant["VariantName"],
        "DesiredWeight": float(variant.get("InitialVariantWeight", 1.0)),
        "DesiredInstanceCount": instance_count(variant),
    }
    return pending | {member: variant[member] for member in ("InstanceType", "AcceleratorType") if member in variant}


def instance_count(variant: Mapping[str, Any]) -> int:
    """How many instances a variant begins with; one plays a serverless one."""
    return int(variant.get("InitialInstanceCount", 1))


def retained(
    wanted: Iterable[Mapping[str, Any]], current: Iterable[Mapping[str, Any]], excluded: Collection[str]
) -> list[Document]:
    """The wanted variants with the weights and counts that those of the same name have now."""
    now = {variant["VariantName"]: variant for variant in current}
    kept = [member for member in ("DesiredWeight", "DesiredInstanceCount") if member not in excluded]
    return [
        {
            **variant,
            **{member: now[variant["VariantName"]][member] for member in kept if variant["VariantName"] in now},
        }
        for variant in wanted
    ]


def summary(
    name: str, images: Iterable[str], resolved_at: float, weight: float, count: int, desired_count: int
) -> Document:
    """One variant of an endpoint as it is now."""
    return {
        "VariantName": name,
        "DeployedImages": [
            {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": resolved_at} for image in images
        ],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": desired_count,
    }

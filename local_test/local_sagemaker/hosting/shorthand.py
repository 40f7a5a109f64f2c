"""The short way to an endpoint: ``blue=model.tar.gz:90`` becomes a model, a variant, and the API's documents."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from local_sagemaker.api.operations import call
from local_sagemaker.archive import pack
from local_sagemaker.errors import UsageError
from local_sagemaker.model_choice import MODEL_ARCHIVE, find_model_data
from local_sagemaker.names import STAND_IN_TYPE, stamped
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import ROLE_ARN, Workspace

SIZE = re.compile(r"(\d+)(%?)")

Document = dict[str, Any]


@dataclass(frozen=True)
class VariantChoice:
    """A variant as an option names it: ``NAME=MODEL`` or ``NAME=MODEL:WEIGHT``."""

    name: str
    model: str
    weight: float = 1.0


def parse_variant(text: str, option: str) -> VariantChoice:
    """Read one variant.

    Raises:
        UsageError: if it is none.
    """
    name, separator, model = text.partition("=")
    if not separator or not name or not model:
        raise UsageError(
            f"{option} {text!r} is not a variant",
            "expected NAME=MODEL or NAME=MODEL:WEIGHT",
            f"write {option} blue=JOB",
        )
    rest, colon, weight = model.rpartition(":")
    try:
        return VariantChoice(name, rest, float(weight)) if colon and rest else VariantChoice(name, model)
    except ValueError:
        return VariantChoice(name, model)


def parse_numbers(pairs: Sequence[str], what: str) -> dict[str, float]:
    """Read ``VARIANT=NUMBER`` arguments.

    Raises:
        UsageError: if one is none.
    """
    found = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise UsageError(f"{pair!r} is no {what}", "expected VARIANT=NUMBER", "write for example blue=90") from None
    return found


def parse_capacity(text: str, option: str) -> Document:
    """A CapacitySize: ``10%`` of the capacity, or ``2`` instances.

    Raises:
        UsageError: if it is neither.
    """
    match = SIZE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"{option} {text!r} is no size", "expected 10% or a number of instances", f"write {option} 10%"
        )
    return {"Type": "CAPACITY_PERCENT" if match[2] else "INSTANCE_COUNT", "Value": int(match[1])}


@dataclass(frozen=True)
class ModelPlan:
    """The model that a choice means, and what makes it where there is none yet.

    Attributes:
        name: the model's.
        request: of CreateModel; None for a model that there is.
        data: the file or folder of this machine that is to be put at the request's address, if any.
    """

    name: str
    request: Document | None = None
    data: Path | None = None


def plan_model(
    workspace: Workspace, choice: VariantChoice, endpoint: str, image: str, env: Mapping[str, str]
) -> ModelPlan:
    """Find the model of a choice, or plan one; nothing is made.

    A choice is a model's name, a training job's name, a folder, a ``model.tar.gz``, or an address in S3.

    Raises:
        UsageError: if it is none of these.
    """
    if workspace.store.find(Kind.MODEL, choice.model):
        return ModelPlan(choice.model)
    data = find_model_data(workspace, choice.model)
    if data is None:
        raise UsageError(
            f"there is no model {choice.model}",
            "expected a model, a training job, a folder, a model.tar.gz or an address in S3",
            "see `byoc ps --all`, or train one with `byoc train`",
        )
    uri = data if isinstance(data, str) else _address(workspace, data)
    identity = hashlib.sha256(f"{uri} {image} {sorted(env.items())}".encode()).hexdigest()[:8]
    name = f"{endpoint[:25]}-{choice.name[:25]}-{identity}"
    if workspace.store.find(Kind.MODEL, name):
        return ModelPlan(name)
    container: Document = {"Image": image, **({"Environment": dict(env)} if env else {})}
    if uri.endswith(".tar.gz"):
        container["ModelDataUrl"] = uri
    else:
        source = {"S3Uri": f"{uri.rstrip('/')}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
        container["ModelDataSource"] = {"S3DataSource": source}
    request = {"ModelName": name, "PrimaryContainer": container, "ExecutionRoleArn": ROLE_ARN}
    return ModelPlan(name, request, None if isinstance(data, str) else data)


def make_model(workspace: Workspace, plan: ModelPlan) -> None:
    """Put the model's data into the buckets, packed if it is a folder, and create the model; fine if there is one."""
    if plan.request is None or workspace.store.find(Kind.MODEL, plan.name):
        return
    if plan.data is not None:
        uri = plan.request["PrimaryContainer"]["ModelDataUrl"]
        if plan.data.is_file():
            workspace.buckets.copy(uri, plan.data)
        else:
            with tempfile.TemporaryDirectory(prefix="byoc-") as folder:
                workspace.buckets.copy(uri, pack(plan.data, Path(folder, MODEL_ARCHIVE)))
    call(workspace, "CreateModel", plan.request)


def _address(workspace: Workspace, data: Path) -> str:
    """Where a file or folder of this machine goes: the same place as long as it holds the same."""
    digest = hashlib.sha256()
    for path in [data] if data.is_file() else sorted(data.rglob("*")):
        digest.update(str(path.relative_to(data)).encode())
        if path.is_file():
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return f"s3://{workspace.default_bucket}/models/{digest.hexdigest()[:16]}/{MODEL_ARCHIVE}"


def config_document(
    endpoint: str,
    variants: Sequence[VariantChoice],
    shadows: Sequence[VariantChoice],
    instances: Mapping[str, float],
    models: Mapping[str, ModelPlan],
    now: datetime,
) -> Document:
    """A CreateEndpointConfig request of choices; ``models`` by variant.

    ``instances`` are by variant as well, and those of all the others by the empty name.
    """

    def variant(choice: VariantChoice) -> Document:
        return {
            "VariantName": choice.name,
            "ModelName": models[choice.name].name,
            "InitialInstanceCount": int(instances.get(choice.name, instances.get("", 1))),
            "InstanceType": STAND_IN_TYPE,
            "InitialVariantWeight": choice.weight,
        }

    document: Document = {
        "EndpointConfigName": stamped(endpoint, now),
        "ProductionVariants": [variant(choice) for choice in variants],
    }
    if shadows:
        document["ShadowProductionVariants"] = [variant(choice) for choice in shadows]
    return document


def capture_document(workspace: Workspace, percentage: float) -> Document:
    """A DataCaptureConfig that keeps requests and answers in the default bucket, CSV and JSON as text.

    Endpoint and variant are the next parts of the files' names, as in all captures.
    """
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": int(percentage),
        "DestinationS3Uri": f"s3://{workspace.default_bucket}/data-capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {
            "CsvContentTypes": ["text/csv"],
            "JsonContentTypes": ["application/json", "application/jsonlines"],
        },
    }


def deployment_document(
    canary: str | None,
    linear: str | None,
    rolling: str | None,
    bake_seconds: int,
    termination_seconds: int,
    alarms: Sequence[str],
) -> Document:
    """A DeploymentConfig of options; {} where none was given.

    Raises:
        UsageError: if more than one kind of shift was asked for.
    """
    if sum(way is not None for way in (canary, linear, rolling)) > 1:
        raise UsageError("--canary, --linear and --rolling are three ways", "an update goes one way", "take one")
    document: Document = {}
    if rolling is not None:
        size = parse_capacity(rolling, "--rolling")
        document["RollingUpdatePolicy"] = {"MaximumBatchSize": size, "WaitIntervalInSeconds": bake_seconds}
    elif canary is not None or linear is not None or bake_seconds or termination_seconds:
        routing: Document = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": bake_seconds}
        if canary is not None:
            routing |= {"Type": "CANARY", "CanarySize": parse_capacity(canary, "--canary")}
        if linear is not None:
            routing |= {"Type": "LINEAR", "LinearStepSize": parse_capacity(linear, "--linear")}
        document["BlueGreenUpdatePolicy"] = {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": termination_seconds,
        }
    if alarms:
        document["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return document

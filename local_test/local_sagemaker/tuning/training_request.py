"""The CreateTrainingJob request of a tuning job's next training job."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from local_sagemaker.state.buckets import join_uri
from local_sagemaker.tuning.definitions import OBJECTIVE_HYPERPARAMETER, Definition

SAME_MEMBERS = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "RetryStrategy",
    "Environment",
)
RESOURCE_MEMBERS = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")


def training_job_name(tuning_job: str, number: int) -> str:
    """The name of the n-th training job, as ``digits-001-2f6d0c1b``."""
    return f"{tuning_job}-{number:03d}-{uuid.uuid4().hex[:8]}"


def training_request(definition: Definition, name: str, tuned: Mapping[str, str]) -> dict[str, Any]:
    """The request for a training job with the values that are to be tried."""
    document = definition.document
    request: dict[str, Any] = {key: document[key] for key in SAME_MEMBERS if key in document}
    request["TrainingJobName"] = name
    request["HyperParameters"] = {**definition.static, **tuned, OBJECTIVE_HYPERPARAMETER: definition.metric}
    request["ResourceConfig"] = resources_of(document)
    if "CheckpointConfig" in document:
        # One training job must not go on from another one's checkpoints.
        place = join_uri(document["CheckpointConfig"]["S3Uri"], name)
        request["CheckpointConfig"] = {**document["CheckpointConfig"], "S3Uri": place}
    return request


def resources_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The ResourceConfig of a definition's training jobs; of several choices of instance, the preferred one."""
    if "ResourceConfig" in document:
        return dict(document["ResourceConfig"])
    chosen = document.get("HyperParameterTuningResourceConfig", {})
    preferred = (chosen.get("InstanceConfigs") or [chosen])[0]
    return {key: preferred[key] for key in RESOURCE_MEMBERS if key in preferred}

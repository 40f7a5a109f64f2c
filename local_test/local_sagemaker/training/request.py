"""The CreateTrainingJob request that a project and flags amount to, and the part of it that is only about this machine.

Source: API reference, CreateTrainingJob.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.names import STAND_IN_TYPE
from local_sagemaker.state.buckets import join_uri
from local_sagemaker.state.workspace import ROLE_ARN, Workspace
from local_sagemaker.training.cluster import GROUP_NAME, GroupRequest

# An instance type that the service knows, for a job that is said to be "local".
VOLUME_GB = 30
DEFAULT_MAX_RUNTIME_SECONDS = 86400
GUIDES_VALUE = 256
GUIDES_KEEP_ALIVE = 3600
# What the service takes and a job on this machine does without.
NOT_PLAYED = {
    "DebugRuleConfigurations": "no rule is evaluated; tensors go where DebugHookConfig says",
    "EnableInterContainerTrafficEncryption": "what hosts send each other does not leave this machine",
    "ExperimentConfig": "no experiment is kept",
    "InfraCheckConfig": "there is no hardware of the platform to be checked",
    "MlflowConfig": "no run is kept",
    "ModelPackageConfig": "no model package is made of the model",
    "ProfilerConfig": "no profile is taken",
    "ProfilerRuleConfigurations": "no rule is evaluated",
    "RemoteDebugConfig": "`byoc shell` takes its place",
    "RetryStrategy": "a job that this machine fails is not run again by itself",
    "ServerlessJobConfig": "a job runs in the image that it names",
    "VpcConfig": "containers are on this machine's own network",
}


@dataclass(frozen=True)
class TrainingFlags:
    """What a user says about a job besides its request document; None, or nothing, is not said.

    Attributes:
        channels: a folder, or an address in S3, by channel.
        metrics: an expression by metric.
        network: ``none`` isolates the job.
        checkpoints: a folder that plays the checkpoint location in S3.
    """

    image: str | None = None
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Path | str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    input_mode: str | None = None
    max_runtime_seconds: float | None = None
    max_wait_seconds: int | None = None
    network: str | None = None
    hosts: int | None = None
    instance_type: str | None = None
    instance_groups: tuple[GroupRequest, ...] = ()
    checkpoints: Path | None = None
    keep_alive_seconds: int | None = None
    is_spot: bool = False

    @property
    def folders(self) -> dict[str, Path]:
        """The user's own folders by channel."""
        return {name: place for name, place in self.channels.items() if isinstance(place, Path)}

    @property
    def types(self) -> dict[str, str]:
        """What the hosts' types are called, where that is none of the service's."""
        own = {group.name: group.instance_type or self.instance_type for group in self.instance_groups}
        known = own or {GROUP_NAME: self.instance_type}
        return {name: kind for name, kind in known.items() if kind is not None and _is_invented(kind)}


def default_request(workspace: Workspace, name: str) -> dict[str, Any]:
    """What a job has where neither a document nor a flag says otherwise."""
    home = f"s3://{workspace.default_bucket}"
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE_ARN,
        "AlgorithmSpecification": {"TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": home},
        "ResourceConfig": {"VolumeSizeInGB": VOLUME_GB},
        "CheckpointConfig": {"S3Uri": join_uri(home, name, "checkpoints")},
        "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_SECONDS},
    }


def flags_request(flags: TrainingFlags, workspace: Workspace, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that flags say, to be laid over ``known``, which is the rest of it."""
    said: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": _algorithm(flags, known),
        "ResourceConfig": _resources(flags),
        "StoppingCondition": _stopping(flags, known),
    }
    if flags.hyperparameters:
        said["HyperParameters"] = dict(flags.hyperparameters)
    if flags.environment:
        said["Environment"] = dict(flags.environment)
    if flags.channels:
        others = [one for one in known.get("InputDataConfig", []) if one.get("ChannelName") not in flags.channels]
        said["InputDataConfig"] = [
            *others,
            *(_channel(workspace, name, channel, place) for channel, place in sorted(flags.channels.items())),
        ]
    if flags.network is not None:
        said["EnableNetworkIsolation"] = flags.network == "none"
    if flags.checkpoints is not None:
        place = join_uri(f"s3://{workspace.default_bucket}", name, "checkpoints")
        said["CheckpointConfig"] = {"S3Uri": place}
    if flags.is_spot:
        said["EnableManagedSpotTraining"] = True
    return {key: value for key, value in said.items() if value != {}}


def doubts(request: Mapping[str, Any]) -> list[str]:
    """What the developer guide does not allow though the service's model does, and what is not played here.

    In sentences.
    """
    keep_alive = request.get("ResourceConfig", {}).get("KeepAlivePeriodInSeconds", 0)
    sentences = [
        f"hyperparameter {name} has {len(value)} characters; the developer guide names {GUIDES_VALUE} as the limit"
        for name, value in request.get("HyperParameters", {}).items()
        if len(value) > GUIDES_VALUE
    ]
    if keep_alive > GUIDES_KEEP_ALIVE:
        sentences.append(
            f"KeepAlivePeriodInSeconds is {keep_alive}; the developer guide names {GUIDES_KEEP_ALIVE} as the limit"
        )
    return [
        *sentences,
        *(f"{name} is not played here: {why}" for name, why in NOT_PLAYED.items() if _asks(request, name)),
    ]


def _asks(request: Mapping[str, Any], name: str) -> bool:
    """Whether a request wants what a member is about, and does not only say that it does not."""
    said = request.get(name)
    if isinstance(said, Mapping):
        return any(said.values()) and not said.get("DisableProfiler")
    return bool(said)


def _algorithm(flags: TrainingFlags, known: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if flags.image is not None:
        said["TrainingImage"] = flags.image
    if flags.input_mode is not None:
        said["TrainingInputMode"] = flags.input_mode
    if flags.metrics:
        kept = known.get("AlgorithmSpecification", {}).get("MetricDefinitions", [])
        said["MetricDefinitions"] = [
            *(one for one in kept if one.get("Name") not in flags.metrics),
            *({"Name": name, "Regex": expression} for name, expression in flags.metrics.items()),
        ]
    return said


def _resources(flags: TrainingFlags) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if flags.instance_groups:
        said["InstanceGroups"] = [
            {
                "InstanceGroupName": group.name,
                "InstanceCount": group.hosts,
                "InstanceType": _known_type(group.instance_type or flags.instance_type),
            }
            for group in flags.instance_groups
        ]
    else:
        if flags.hosts is not None:
            said["InstanceCount"] = flags.hosts
        if flags.instance_type is not None:
            said["InstanceType"] = _known_type(flags.instance_type)
    if flags.keep_alive_seconds is not None:
        said["KeepAlivePeriodInSeconds"] = flags.keep_alive_seconds
    return said


def _stopping(flags: TrainingFlags, known: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if flags.max_runtime_seconds is not None:
        said["MaxRuntimeInSeconds"] = math.ceil(flags.max_runtime_seconds)
    if flags.max_wait_seconds is not None:
        said["MaxWaitTimeInSeconds"] = flags.max_wait_seconds
    elif flags.is_spot and "MaxWaitTimeInSeconds" not in known.get("StoppingCondition", {}):
        runtime = known.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS)
        said["MaxWaitTimeInSeconds"] = said.get("MaxRuntimeInSeconds", runtime)
    return said


def _channel(workspace: Workspace, job: str, name: str, place: Path | str) -> dict[str, Any]:
    uri = (
        join_uri(f"s3://{workspace.default_bucket}", job, "input", name, "") if isinstance(place, Path) else str(place)
    )
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _known_type(name: str | None) -> str:
    return STAND_IN_TYPE if name is None or _is_invented(name) else name


def _is_invented(name: str | None) -> bool:
    return name is not None and not name.startswith("ml.")

"""A training job on paper, made from a request or from a project. Nothing here changes the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from local_sagemaker.api.documents import merge
from local_sagemaker.engines.base import Limits
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name
from local_sagemaker.project import Project
from local_sagemaker.state.buckets import Buckets, join_uri
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.channels import Channel, read_channels
from local_sagemaker.training.checkpoints import check_store
from local_sagemaker.training.cluster import GROUP_NAME, INSTANCE_TYPE, Cluster, GroupRequest, plan_cluster
from local_sagemaker.training.containers import plan_container, plan_containers, plan_network
from local_sagemaker.training.local_options import (
    AFTER_FAILURE_SECONDS,
    LocalOptions,
    is_taken,
)
from local_sagemaker.training.metrics import compile_definitions
from local_sagemaker.training.request import (
    DEFAULT_MAX_RUNTIME_SECONDS,
    TrainingFlags,
    default_request,
    flags_request,
)
from local_sagemaker.training.training_job import (
    CHECKPOINTS,
    JOB_LABEL,
    OUTPUT,
    SyncedFolder,
    TrainingJob,
)
from local_sagemaker.training.warm_pool import CACHE, CACHE_VARIABLE, plan_warm_pool

__all__ = [
    "DEFAULT_IMAGE",
    "JOB_LABEL",
    "TrainingJob",
    "make_options",
    "make_request",
    "plan_container",
    "plan_containers",
    "plan_from_request",
    "plan_network",
    "plan_training_job",
]

DEFAULT_IMAGE = "sagemaker-byoc:latest"


def plan_training_job(
    project: Project,
    environ: Mapping[str, str],
    now: datetime,
    *,
    image: str = DEFAULT_IMAGE,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS,
    after_failure_seconds: float = AFTER_FAILURE_SECONDS,
    network: str = "bridge",
    session: str = "local",
    hosts: int = 1,
    instance_type: str = INSTANCE_TYPE,
    instance_groups: tuple[GroupRequest, ...] = (),
    limits: Limits | None = None,
    checkpoints: Path | None = None,
) -> TrainingJob:
    """Turn a project into a job.

    Args:
        project: what the job is made from.
        environ: the invoking user's environment, for the region.
        now: names the job where ``name`` does not.
        image: the tag of the image that the docker engine runs.
        name: the job's name; by default made of the project's and the time.
        environment: variables for the user's code.
        max_runtime_seconds: the limit after which the job is stopped.
        after_failure_seconds: how long the other hosts may run on once one has failed.
        network: ``bridge``, or ``none`` for network isolation.
        session: marks this invocation's containers.
        hosts: how many.
        instance_type: what ``resourceconfig.json`` calls the hosts' type.
        instance_groups: groups of hosts, of a heterogeneous cluster.
        limits: what each host may use.
        checkpoints: a folder that plays the checkpoint location in S3.

    Raises:
        UsageError: if a name or a number is not allowed, or the job exists.
    """
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    flags = TrainingFlags(
        image=image,
        hyperparameters=project.hyperparameters,
        channels=project.channels,
        environment={check_environment_key(key): value for key, value in (environment or {}).items()},
        max_runtime_seconds=max_runtime_seconds,
        network=network,
        hosts=hosts,
        instance_type=instance_type,
        instance_groups=instance_groups,
        checkpoints=None if checkpoints is None else check_store(checkpoints),
    )
    workspace = Workspace(project.root, region)
    job_name = check_job_name(name) if name else make_job_name(project.root.name, now)
    request = make_request(flags, workspace, job_name)
    options = make_options(
        flags, LocalOptions(project.code, session=session, after_failure_seconds=after_failure_seconds), limits
    )
    return plan_from_request(request, workspace, options)


def make_request(
    flags: TrainingFlags, workspace: Workspace, name: str, document: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The request of a job: what a document says, or else the defaults, and flags over it.

    Raises:
        UsageError: if a number is not allowed.
    """
    if flags.max_runtime_seconds is not None and flags.max_runtime_seconds < 1:
        raise UsageError(
            f"--max-runtime {flags.max_runtime_seconds}",
            "expected at least 1 second",
            "the platform's default is 86400",
        )
    if flags.instance_groups and flags.hosts not in {None, 1}:
        plan_cluster(flags.hosts or 1, INSTANCE_TYPE, flags.instance_groups)
    known = default_request(workspace, name) if document is None else document
    return merge(known, flags_request(flags, workspace, name, known))


def make_options(flags: TrainingFlags, options: LocalOptions, limits: Limits | None = None) -> LocalOptions:
    """The local side of what flags say, over ``options``.

    Raises:
        UsageError: if a number is not allowed.
    """
    if options.after_failure_seconds < 0:
        raise UsageError(f"--after-failure {options.after_failure_seconds}", "expected seconds", "the default is 30")
    return replace(
        options,
        folders=flags.folders,
        checkpoints=flags.checkpoints,
        max_runtime_seconds=flags.max_runtime_seconds,
        limits=limits or Limits(),
        types=flags.types,
    )


def plan_from_request(request: Mapping[str, Any], workspace: Workspace, options: LocalOptions) -> TrainingJob:
    """Turn a CreateTrainingJob request into a job.

    Raises:
        ValidationError: if the service would refuse the request.
        UsageError: if this machine cannot run it, or the job exists.
    """
    name = request["TrainingJobName"]
    directory = workspace.directory_of(Kind.TRAINING_JOB, name)
    if is_taken(directory):
        raise UsageError(
            f"there is a job {name} already: {directory}", "a job name is used once", "give another --job-name"
        )
    algorithm = request.get("AlgorithmSpecification", {})
    image = algorithm.get("TrainingImage")
    if not image:
        raise ValidationError("AlgorithmSpecification.TrainingImage is needed to bring your own container")
    stopping = request.get("StoppingCondition", {})
    runtime = options.max_runtime_seconds or stopping.get("MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS)
    checkpoint = request.get("CheckpointConfig")
    pool = plan_warm_pool(request, workspace.directory)
    output = request["OutputDataConfig"]
    own = {
        "TRAINING_JOB_NAME": name,
        "TRAINING_JOB_ARN": workspace.arn(Kind.TRAINING_JOB, name),
        "AWS_REGION": workspace.region,
        **({CACHE_VARIABLE: CACHE} if pool else {}),
    }
    definitions = {one["Name"]: one["Regex"] for one in algorithm.get("MetricDefinitions", [])}
    compile_definitions(definitions)
    return TrainingJob(
        name=name,
        directory=directory,
        image=image,
        code=options.code,
        hyperparameters=request.get("HyperParameters", {}),
        channels=tuple(_with_link(channel, workspace.buckets) for channel in read_channels(request, options.folders)),
        environment=own | request.get("Environment", {}),
        buckets=workspace.buckets,
        output_uri=join_uri(output["S3OutputPath"], name, "output"),
        max_runtime_seconds=runtime,
        stop_grace_seconds=options.stop_grace_seconds,
        after_failure_seconds=options.after_failure_seconds,
        network="none" if request.get("EnableNetworkIsolation") else "bridge",
        session=options.session,
        cluster=read_cluster(request, options.types),
        limits=options.limits,
        checkpoints=_checkpoints(checkpoint, name, workspace, options),
        compressed=output.get("CompressionType", "GZIP") != "NONE",
        checkpoint_uri=checkpoint["S3Uri"] if checkpoint else None,
        checkpoint_path=(checkpoint or {}).get("LocalPath", CHECKPOINTS),
        entrypoint=tuple(algorithm.get("ContainerEntrypoint", ())),
        arguments=tuple(algorithm["ContainerArguments"]) if "ContainerArguments" in algorithm else None,
        definitions=definitions,
        max_wait_seconds=stopping.get("MaxWaitTimeInSeconds") if request.get("EnableManagedSpotTraining") else None,
        interruptions=options.interruptions,
        synced=_synced(request, name),
        warm_pool=pool,
        own_labels=workspace.labels(Kind.TRAINING_JOB, name),
    )


def read_cluster(request: Mapping[str, Any], types: Mapping[str, str]) -> Cluster:
    """The hosts of a request; ``types`` are names for the groups' types that the service does not know.

    Raises:
        ValidationError: if there is no ResourceConfig.
    """
    resources = request.get("ResourceConfig")
    if not resources:
        raise ValidationError("ResourceConfig is needed to bring your own container")
    groups = tuple(
        GroupRequest(
            group["InstanceGroupName"],
            group["InstanceCount"],
            types.get(group["InstanceGroupName"], group["InstanceType"]),
        )
        for group in resources.get("InstanceGroups", [])
    )
    if groups:
        return plan_cluster(groups=groups)
    if "InstanceType" not in resources:
        raise ValidationError("ResourceConfig needs InstanceType, or InstanceGroups")
    return plan_cluster(resources.get("InstanceCount", 1), types.get(GROUP_NAME, resources["InstanceType"]))


def _with_link(channel: Channel, buckets: Buckets) -> Channel:
    """A prefix that shows a folder of the user's is that folder."""
    if channel.folder is not None or channel.data_type != "S3Prefix":
        return channel
    place = buckets.path(channel.uri.rstrip("/"))
    return replace(channel, folder=place.resolve()) if place.is_symlink() and place.is_dir() else channel


def _checkpoints(
    config: Mapping[str, str] | None, name: str, workspace: Workspace, options: LocalOptions
) -> Path | None:
    if config is None or options.checkpoints is not None:
        return options.checkpoints
    uri = config["S3Uri"].rstrip("/")
    in_own_directory = uri == join_uri(f"s3://{workspace.default_bucket}", name, "checkpoints")
    return None if in_own_directory else workspace.buckets.path(uri)


def _synced(request: Mapping[str, Any], name: str) -> tuple[SyncedFolder, ...]:
    folders = []
    for key, part in (("TensorBoardOutputConfig", "tensorboard"), ("DebugHookConfig", "tensors")):
        config = request.get(key)
        if config:
            uri = join_uri(config["S3OutputPath"], name, part)
            folders.append(SyncedFolder(part, config.get("LocalPath", f"{OUTPUT}/{part}"), uri))
    return tuple(folders)

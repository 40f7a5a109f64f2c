"""A training job on paper: its hosts, their containers, mounts and network. Nothing here changes the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from local_sagemaker.api.documents import merge
from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Limits, Mount, NetworkPlan
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name
from local_sagemaker.project import Project
from local_sagemaker.state.buckets import Buckets, join_uri
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.channel_data import Share, share_of
from local_sagemaker.training.channels import Channel, read_channels
from local_sagemaker.training.chaos import Interruption
from local_sagemaker.training.checkpoints import check_store
from local_sagemaker.training.cluster import GROUP_NAME, INSTANCE_TYPE, Cluster, GroupRequest, plan_cluster
from local_sagemaker.training.local_options import (
    AFTER_FAILURE_SECONDS,
    STOP_GRACE_SECONDS,
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
from local_sagemaker.training.warm_pool import CACHE, CACHE_VARIABLE, WarmPool, plan_warm_pool

DEFAULT_IMAGE = "sagemaker-byoc:latest"
SESSION_LABEL = "sagemaker-byoc.session"
JOB_LABEL = "sagemaker-byoc.job"
CHECKPOINTS = f"{BASE_DIR}/checkpoints"
OUTPUT = f"{BASE_DIR}/output"
# What separates the parts of the kernel's options for an overlay.
SEPARATORS = frozenset(":,\\")


@dataclass(frozen=True)
class SyncedFolder:
    """A folder of the container that the platform keeps carrying to S3 while the job runs."""

    name: str
    target: str
    uri: str


@dataclass(frozen=True)
class TrainingJob:
    """A job, completely described and not yet started.

    Attributes:
        directory: where all of the job's files go.
        code: the user's code folder, or None for the image's own.
        max_runtime_seconds: the limit of the training time, after which the job is stopped.
        stop_grace_seconds: from SIGTERM to SIGKILL.
        after_failure_seconds: how long the other hosts may run on once one has failed.
        session: marks this invocation's containers.
        cluster: the hosts.
        limits: what each host may use.
        checkpoints: a folder that plays the checkpoint location in S3, or None for one in the job's own directory.
        buckets: the local S3.
        output_uri: below it the artifacts appear in S3.
        compressed: whether the artifacts are archives.
        checkpoint_uri: the checkpoint location in S3; None where the job asks for none.
        checkpoint_path: where the container has its checkpoints.
        entrypoint: replaces the image's.
        arguments: replace ``train``.
        definitions: the expression of each metric.
        max_wait_seconds: the limit of everything together, with spot instances.
        interruptions: when the attempts lose their instances.
        synced: further folders that are carried to S3 during the run.
        warm_pool: what outlives the job on its hosts.
        own_labels: what the record's containers are found by.
    """

    name: str
    directory: Path
    image: str
    code: Path | None
    hyperparameters: Mapping[str, str]
    channels: tuple[Channel, ...]
    environment: Mapping[str, str]
    buckets: Buckets
    output_uri: str
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS
    stop_grace_seconds: float = STOP_GRACE_SECONDS
    after_failure_seconds: float = AFTER_FAILURE_SECONDS
    network: str = "bridge"
    session: str = "local"
    cluster: Cluster = field(default_factory=plan_cluster)
    limits: Limits = field(default_factory=Limits)
    checkpoints: Path | None = None
    compressed: bool = True
    checkpoint_uri: str | None = None
    checkpoint_path: str = CHECKPOINTS
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    definitions: Mapping[str, str] = field(default_factory=dict)
    max_wait_seconds: float | None = None
    interruptions: tuple[Interruption, ...] = ()
    synced: tuple[SyncedFolder, ...] = ()
    warm_pool: WarmPool | None = None
    own_labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, in the platform's order."""
        return self.cluster.hosts

    @property
    def is_alone(self) -> bool:
        """Whether there is one host only."""
        return len(self.hosts) == 1

    @property
    def labels(self) -> dict[str, str]:
        """What the job's containers and its network are found by."""
        return {SESSION_LABEL: self.session, JOB_LABEL: self.name, **self.own_labels}

    @property
    def log_file(self) -> Path:
        """The output of all hosts."""
        return self.directory / "logs.txt"

    @property
    def model_uri(self) -> str:
        """Where the model is in S3 at the end."""
        return join_uri(self.output_uri, "model.tar.gz" if self.compressed else "model/")

    @property
    def checkpoint_store(self) -> Path | None:
        """The folder that the hosts' checkpoints are carried to, or None where the one host writes there itself."""
        if self.checkpoints is not None:
            return self.checkpoints
        return None if self.is_alone or self.checkpoint_uri is None else self.directory / "checkpoints"

    def host_directory(self, host: str) -> Path:
        """What becomes /opt/ml of a host, part by part."""
        return self.directory if self.is_alone else self.directory / "hosts" / host

    def folders(self, part: str) -> dict[str, Path]:
        """The folder of each host that is mounted at /opt/ml/``part``."""
        return {host: self.host_directory(host) / part for host in self.hosts}

    def channels_of(self, host: str) -> tuple[tuple[Channel, Share], ...]:
        """The channels that a host gets, and its share of each."""
        group = self.cluster.group_of(host).name
        return tuple(
            (channel, share_of(channel, host, self._hosts_with(channel)))
            for channel in self.channels
            if channel.is_for(group)
        )

    def _hosts_with(self, channel: Channel) -> tuple[str, ...]:
        return tuple(host for host in self.hosts if channel.is_for(self.cluster.group_of(host).name))

    def own_folder(self, channel: Channel, share: Share) -> Path | None:
        """The user's own folder where a host gets just that, and nothing needs to be put together for it."""
        whole = channel.data_type == "S3Prefix" and share == Share()
        return channel.folder if whole and channel.mode != "Pipe" else None

    def gathered(self, host: str, channel: Channel) -> Path:
        """Where the objects that a host gets of a channel are put together."""
        return self.host_directory(host) / "channels" / channel.name


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


def plan_network(job: TrainingJob) -> NetworkPlan | None:
    """The network on which the job's hosts find each other, or None for a host that is alone."""
    if job.is_alone:
        return None
    # Isolated hosts of one job reach each other all the same: the platform says so.
    return NetworkPlan(f"byoc-train-{job.name}", job.hosts, job.network == "none", job.labels)


def plan_containers(job: TrainingJob, addresses: Mapping[str, str] | None = None) -> dict[str, ContainerPlan]:
    """The container of each host; ``addresses`` are those of all hosts, once there is a network."""
    return {host: replace(plan_container(job, host), addresses=addresses or {}) for host in job.hosts}


def plan_container(job: TrainingJob, host: str) -> ContainerPlan:
    """One host's container. Folders are mounted one by one, never all of /opt/ml, so the image's files stay seen."""
    directory = job.host_directory(host)
    mounts = [Mount(directory / "input", f"{BASE_DIR}/input")]
    mounts += [
        plan_channel(job, host, channel, share) for channel, share in job.channels_of(host) if channel.mode != "Pipe"
    ]
    mounts += [Mount(directory / part, f"{BASE_DIR}/{part}") for part in ("model", "output")]
    mounts.append(Mount(directory / "checkpoints", job.checkpoint_path))
    mounts += [
        Mount(directory / "synced" / folder.name, folder.target)
        for folder in job.synced
        if not folder.target.startswith(f"{OUTPUT}/")
    ]
    if job.warm_pool is not None:
        mounts.append(Mount(job.warm_pool.cache(host), CACHE))
    if job.code is not None:
        mounts.append(Mount(directory / "code", f"{BASE_DIR}/code"))
    network = plan_network(job)
    return ContainerPlan(
        name=f"byoc-train-{job.name}" if job.is_alone else f"byoc-train-{job.name}-{host}",
        command="train",
        image=job.image,
        base_directory=directory,
        environment=job.environment,
        mounts=tuple(mounts),
        hostname=host,
        network=network.name if network else job.network,
        labels=job.labels,
        limits=job.limits,
        entrypoint=job.entrypoint,
        arguments=job.arguments,
    )


def plan_channel(job: TrainingJob, host: str, channel: Channel, share: Share) -> Mount:
    """How a host sees a channel of files.

    In File mode a job may write to its channel, for on the platform it has a copy. Here it has what is there already,
    with a folder of its own laid over it that takes its changes; so gigabytes are ready at once.
    """
    source = job.own_folder(channel, share) or job.gathered(host, channel)
    changes = job.host_directory(host) / "changes" / channel.name
    target = f"{BASE_DIR}/input/data/{channel.name}"
    if channel.mode == "FastFile" or SEPARATORS & set(f"{source}{changes}"):
        return Mount(source, target, read_only=True)
    return Mount(source, target, changes=changes)


def synced_folder(job: TrainingJob, host: str, folder: SyncedFolder) -> Path:
    """Where a synced folder of a host lies on this machine."""
    if folder.target.startswith(f"{OUTPUT}/"):
        return job.host_directory(host) / "output" / folder.target.removeprefix(f"{OUTPUT}/")
    return job.host_directory(host) / "synced" / folder.name

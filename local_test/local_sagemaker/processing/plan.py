"""A processing job on paper: its hosts, their containers and mounts. Nothing here changes the disk.

Source: SageMaker developer guide, "Build Your Own Processing Container"; API reference, CreateProcessingJob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Limits, Mount, NetworkPlan
from local_sagemaker.errors import ValidationError
from local_sagemaker.state.buckets import Buckets
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import SESSION_LABEL, Workspace, container_name
from local_sagemaker.training.channel_data import Share, share_of
from local_sagemaker.training.channels import Channel
from local_sagemaker.training.cluster import GROUP_NAME, Cluster, plan_cluster
from local_sagemaker.training.local_options import LocalOptions
from local_sagemaker.training.training_job import JOB_LABEL

PROCESSING_DIR = f"{BASE_DIR}/processing"
DEFAULT_MAX_RUNTIME_SECONDS = 86400


@dataclass(frozen=True)
class Input:
    """An input: a channel of files, and where the container finds it."""

    channel: Channel
    target: str


@dataclass(frozen=True)
class Output:
    """A folder of the container that goes to S3, at the end or all the time."""

    name: str
    target: str
    uri: str
    is_continuous: bool = False


@dataclass(frozen=True)
class ProcessingJob:
    """A job, completely described and not yet started.

    Attributes:
        directory: where all of the job's files go.
        request: what ``processingjobconfig.json`` tells.
        entrypoint: replaces the image's.
        arguments: replace the image's CMD.
    """

    name: str
    directory: Path
    image: str
    request: Mapping[str, Any]
    arn: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    environment: Mapping[str, str]
    buckets: Buckets
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS
    stop_grace_seconds: float = 120.0
    after_failure_seconds: float = 30.0
    network: str = "bridge"
    cluster: Cluster = field(default_factory=plan_cluster)
    limits: Limits = field(default_factory=Limits)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts, in the platform's order."""
        return self.cluster.hosts

    @property
    def is_alone(self) -> bool:
        """Whether there is one host only."""
        return len(self.hosts) == 1

    @property
    def log_file(self) -> Path:
        """The output of all hosts."""
        return self.directory / "logs.txt"

    def host_directory(self, host: str) -> Path:
        """What becomes /opt/ml of a host, part by part."""
        return self.directory if self.is_alone else self.directory / "hosts" / host

    def share(self, one: Input, host: str) -> Share:
        """The part of an input that a host gets."""
        return share_of(one.channel, host, self.hosts)

    def own_folder(self, one: Input, host: str) -> Path | None:
        """The user's own folder where a host gets just that."""
        whole = one.channel.data_type == "S3Prefix" and self.share(one, host) == Share()
        return one.channel.folder if whole else None

    def written(self, output: Output, host: str) -> Path:
        """Where a host's output lies on this machine."""
        return self.host_directory(host) / "outputs" / folder_name(output.name)


def plan_processing_job(request: Mapping[str, Any], workspace: Workspace, options: LocalOptions) -> ProcessingJob:
    """Turn a CreateProcessingJob request into a job.

    Raises:
        ValidationError: if the service would refuse the request, or it asks for what is not played here.
    """
    name = request["ProcessingJobName"]
    resources = request["ProcessingResources"]["ClusterConfig"]
    application = request["AppSpecification"]
    kind = options.types.get(GROUP_NAME, resources.get("InstanceType", "local"))
    network = request.get("NetworkConfig", {})
    labels = workspace.labels(Kind.PROCESSING_JOB, name)
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    job = ProcessingJob(
        name=name,
        directory=workspace.directory_of(Kind.PROCESSING_JOB, name),
        image=application["ImageUri"],
        request=request,
        arn=workspace.arn(Kind.PROCESSING_JOB, name),
        inputs=tuple(_input(one, workspace.buckets, options) for one in request.get("ProcessingInputs", [])),
        outputs=tuple(_output(one) for one in outputs),
        environment={"AWS_REGION": workspace.region, **request.get("Environment", {})},
        buckets=workspace.buckets,
        entrypoint=tuple(application.get("ContainerEntrypoint", ())),
        arguments=tuple(application["ContainerArguments"]) if "ContainerArguments" in application else None,
        max_runtime_seconds=request.get("StoppingCondition", {}).get(
            "MaxRuntimeInSeconds", DEFAULT_MAX_RUNTIME_SECONDS
        ),
        stop_grace_seconds=options.stop_grace_seconds,
        after_failure_seconds=options.after_failure_seconds,
        network="none" if network.get("EnableNetworkIsolation") else "bridge",
        cluster=plan_cluster(resources.get("InstanceCount", 1), kind),
        limits=options.limits,
        labels={SESSION_LABEL: options.session, JOB_LABEL: name, **labels},
    )
    _check(job)
    return job


def _input(document: Mapping[str, Any], buckets: Buckets, options: LocalOptions) -> Input:
    name, source = document["InputName"], document.get("S3Input")
    if source is None:
        raise ValidationError(f"Input {name}: only S3Input is played here")
    if source.get("S3InputMode", "File") != "File" or source.get("S3CompressionType", "None") != "None":
        raise ValidationError(f"Input {name}: only S3InputMode File without compression is played here")
    channel = Channel(
        name=name,
        uri=source["S3Uri"],
        data_type=source["S3DataType"],
        distribution=source.get("S3DataDistributionType", "FullyReplicated"),
        folder=options.folders.get(name),
    )
    place = buckets.path(channel.uri.rstrip("/"))
    if channel.folder is None and channel.data_type == "S3Prefix" and place.is_symlink() and place.is_dir():
        channel = replace(channel, folder=place.resolve())
    return Input(channel, source.get("LocalPath", f"{PROCESSING_DIR}/input/{name}"))


def _output(document: Mapping[str, Any]) -> Output:
    name, place = document["OutputName"], document.get("S3Output")
    if place is None:
        raise ValidationError(f"Output {name}: only S3Output is played here")
    target = place.get("LocalPath", f"{PROCESSING_DIR}/output/{name}")
    return Output(name, target, place["S3Uri"], place["S3UploadMode"] == "Continuous")


def _check(job: ProcessingJob) -> None:
    named = [(one.channel.name, one.target) for one in job.inputs] + [(one.name, one.target) for one in job.outputs]
    for name, target in named:
        if not target.startswith(f"{PROCESSING_DIR}/") or ".." in target.split("/"):
            raise ValidationError(f"LocalPath {target} of {name} must begin with {PROCESSING_DIR}/")
    for names in ([one.channel.name for one in job.inputs], [one.name for one in job.outputs]):
        for name in names:
            if names.count(name) > 1:
                raise ValidationError(f"Names must be unique: {name} is there {names.count(name)} times")
    targets = [target.rstrip("/") for _, target in named]
    for target in targets:
        if targets.count(target) > 1:
            raise ValidationError(f"LocalPath {target} is that of several inputs or outputs")


def folder_name(name: str) -> str:
    """A folder for an input or an output, whose name may be any text."""
    quoted = quote(name, safe=" ")
    return quoted.replace(".", "%2E") if not quoted.strip(".") else quoted


def plan_network(job: ProcessingJob) -> NetworkPlan | None:
    """The network on which the job's hosts find each other, or None for a host that is alone."""
    if job.is_alone:
        return None
    return NetworkPlan(container_name("process", job.labels, job.name), job.hosts, job.network == "none", job.labels)


def plan_containers(job: ProcessingJob, addresses: Mapping[str, str] | None = None) -> dict[str, ContainerPlan]:
    """The container of each host; ``addresses`` are those of all hosts, once there is a network."""
    network = plan_network(job)
    return {
        host: ContainerPlan(
            name=container_name("process", job.labels, job.name, *([] if job.is_alone else [host])),
            command="process",
            image=job.image,
            base_directory=job.host_directory(host),
            environment=job.environment,
            mounts=plan_mounts(job, host),
            hostname=host,
            network=network.name if network else job.network,
            labels=job.labels,
            limits=job.limits,
            addresses=addresses or {},
            entrypoint=job.entrypoint,
            arguments=job.arguments,
        )
        for host in job.hosts
    }


def plan_mounts(job: ProcessingJob, host: str) -> tuple[Mount, ...]:
    """One host's folders; outer ones come before those in them."""
    directory = job.host_directory(host)
    mounts = [Mount(directory / "config", f"{BASE_DIR}/config"), Mount(directory / "output", f"{BASE_DIR}/output")]
    mounts += [plan_input(job, host, one) for one in job.inputs]
    mounts += [Mount(job.written(one, host), one.target) for one in job.outputs]
    return tuple(sorted(mounts, key=lambda mount: mount.target))


def plan_input(job: ProcessingJob, host: str, one: Input) -> Mount:
    """How a host sees an input: what it changes there is laid over, and not written to the user's folder."""
    directory, name = job.host_directory(host), folder_name(one.channel.name)
    source, changes = job.own_folder(one, host) or directory / "inputs" / name, directory / "changes" / name
    return Mount(source, one.target, changes=changes)

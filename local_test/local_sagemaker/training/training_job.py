"""A training job, completely described and not yet started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_sagemaker.engines.base import BASE_DIR, Limits
from local_sagemaker.state.buckets import Buckets, join_uri
from local_sagemaker.state.workspace import SESSION_LABEL
from local_sagemaker.training.channel_data import Share, share_of
from local_sagemaker.training.channels import Channel
from local_sagemaker.training.chaos import Interruption
from local_sagemaker.training.cluster import Cluster, plan_cluster
from local_sagemaker.training.local_options import AFTER_FAILURE_SECONDS, STOP_GRACE_SECONDS
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS
from local_sagemaker.training.warm_pool import WarmPool

JOB_LABEL = "sagemaker-byoc.job"
CHECKPOINTS = f"{BASE_DIR}/checkpoints"
OUTPUT = f"{BASE_DIR}/output"


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

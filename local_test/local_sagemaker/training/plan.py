"""A training job on paper: its hosts, their containers, mounts and network. Nothing here touches the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Limits, Mount, NetworkPlan
from local_sagemaker.errors import UsageError
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name
from local_sagemaker.project import Project
from local_sagemaker.training.checkpoints import check_store
from local_sagemaker.training.cluster import INSTANCE_TYPE, Cluster, GroupRequest, plan_cluster

DEFAULT_IMAGE = "sagemaker-byoc:latest"
DEFAULT_MAX_RUNTIME_SECONDS = 86400
AFTER_FAILURE_SECONDS = 30.0
STOP_GRACE_SECONDS = 120.0
ACCOUNT = "000000000000"
SESSION_LABEL = "sagemaker-byoc.session"
JOB_LABEL = "sagemaker-byoc.job"


@dataclass(frozen=True)
class TrainingJob:
    """A job, completely described and not yet started.

    Attributes:
        directory: where all of the job's files go.
        code: the user's code folder, or None for the image's own.
        max_runtime_seconds: the limit after which the job is stopped.
        stop_grace_seconds: from SIGTERM to SIGKILL.
        after_failure_seconds: how long the other hosts may run on once one has failed.
        session: marks this invocation's containers.
        cluster: the hosts.
        limits: what each host may use.
        checkpoints: a folder that plays the checkpoint location in S3, or None for one in the job's own directory.
    """

    name: str
    directory: Path
    image: str
    code: Path | None
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]
    environment: Mapping[str, str]
    max_runtime_seconds: float = DEFAULT_MAX_RUNTIME_SECONDS
    stop_grace_seconds: float = STOP_GRACE_SECONDS
    after_failure_seconds: float = AFTER_FAILURE_SECONDS
    network: str = "bridge"
    session: str = "local"
    cluster: Cluster = field(default_factory=plan_cluster)
    limits: Limits = field(default_factory=Limits)
    checkpoints: Path | None = None

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
        return {SESSION_LABEL: self.session, JOB_LABEL: self.name}

    @property
    def log_file(self) -> Path:
        """The output of all hosts."""
        return self.directory / "logs.txt"

    @property
    def checkpoint_store(self) -> Path | None:
        """The folder that the hosts' checkpoints are carried to, or None where the one host writes there itself."""
        if self.checkpoints is not None:
            return self.checkpoints
        return None if self.is_alone else self.directory / "checkpoints"

    def host_directory(self, host: str) -> Path:
        """What becomes /opt/ml of a host, part by part."""
        return self.directory if self.is_alone else self.directory / "hosts" / host

    def folders(self, part: str) -> dict[str, Path]:
        """The folder of each host that is mounted at /opt/ml/``part``."""
        return {host: self.host_directory(host) / part for host in self.hosts}


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
    if max_runtime_seconds < 1:
        raise UsageError(
            f"--max-runtime {max_runtime_seconds}", "expected at least 1 second", "the platform's default is 86400"
        )
    if after_failure_seconds < 0:
        raise UsageError(f"--after-failure {after_failure_seconds}", "expected seconds", "the default is 30")
    job_name = check_job_name(name) if name else make_job_name(project.root.name, now)
    directory = project.jobs_dir / job_name
    if directory.exists():
        raise UsageError(
            f"there is a job {job_name} already: {directory}", "a job name is used once", "give another --job-name"
        )
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    own = {
        "TRAINING_JOB_NAME": job_name,
        "TRAINING_JOB_ARN": f"arn:aws:sagemaker:{region}:{ACCOUNT}:training-job/{job_name.lower()}",
        "AWS_REGION": region,
    }
    users = {check_environment_key(key): value for key, value in (environment or {}).items()}
    return TrainingJob(
        name=job_name,
        directory=directory,
        image=image,
        code=project.code,
        hyperparameters=project.hyperparameters,
        channels=project.channels,
        environment=own | users,
        max_runtime_seconds=max_runtime_seconds,
        after_failure_seconds=after_failure_seconds,
        network=network,
        session=session,
        cluster=plan_cluster(hosts, instance_type, instance_groups),
        limits=limits or Limits(),
        checkpoints=None if checkpoints is None else check_store(checkpoints),
    )


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
    # The job gets links or mounts of the user's own folders, so it may not write to them.
    mounts += [
        Mount(folder, f"{BASE_DIR}/input/data/{name}", read_only=True) for name, folder in sorted(job.channels.items())
    ]
    mounts += [Mount(directory / part, f"{BASE_DIR}/{part}") for part in ("model", "output", "checkpoints")]
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
    )

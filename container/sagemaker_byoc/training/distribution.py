"""How a job spreads over processes and hosts, as the hyperparameters that SageMaker's SDKs send say it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sagemaker_byoc.accelerators import count_gpus, count_neurons
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.training.job import TrainingJob

Kind = Literal["none", "torchrun", "horovod", "mpi", "parameter_server", "mirrored"]

# Hyperparameter to launcher. `sagemaker_horovod_enabled` is this image's own; the others are the SDKs'.
KINDS: Mapping[str, Kind] = {
    "sagemaker_torch_distributed_enabled": "torchrun",
    "sagemaker_pytorch_ddp_enabled": "torchrun",
    "sagemaker_horovod_enabled": "horovod",
    "sagemaker_mpi_enabled": "mpi",
    "sagemaker_parameter_server_enabled": "parameter_server",
    "sagemaker_multi_worker_mirrored_strategy_enabled": "mirrored",
}
UNSUPPORTED: Mapping[str, str] = {
    "sagemaker_distributed_dataparallel_enabled": "AWS ships that library only in images of its own",
    "sagemaker_pytorch_xla_multi_worker_enabled": "PyTorch/XLA is not in this image",
}
PROCESSES_PER_HOST = "sagemaker_mpi_num_of_processes_per_host"
PROCESSES = "sagemaker_mpi_num_processes"
MPI_OPTIONS = "sagemaker_mpi_custom_mpi_options"
GROUPS = "sagemaker_distribution_instance_groups"


@dataclass(frozen=True)
class Distribution:
    """Which launcher, over which hosts, with how many processes.

    Attributes:
        hosts: those that take part, in lexicographic order; the first is the leader.
        processes_per_host: on the current host.
        processes: of the whole job, where a job limits them; else None.
        mpi_options: the job's further arguments for mpirun.
        interface: the network interface between the hosts, or None where the container has none of that name.
    """

    kind: Kind
    hosts: tuple[str, ...]
    current_host: str
    processes_per_host: int = 1
    processes: int | None = None
    mpi_options: tuple[str, ...] = ()
    interface: str | None = None

    @property
    def leader(self) -> str:
        return self.hosts[0]

    @property
    def is_leader(self) -> bool:
        return self.current_host == self.leader

    @property
    def host_rank(self) -> int:
        return self.hosts.index(self.current_host)

    @property
    def has_ranks(self) -> bool:
        """Whether several copies of the script make one program, which fails as a whole when one of them does."""
        return self.kind in ("torchrun", "horovod", "mpi")


def choose_distribution(job: TrainingJob, interfaces: Path = Path("/sys/class/net")) -> Distribution:
    """Read the job's distribution; a host outside of the groups that it spans runs the script by itself.

    Raises PlatformInputError for several distributions at once, one that this image lacks, or a wrong number.
    """
    kind = _kind(job)
    hosts = tuple(sorted(distribution_hosts(job)))
    if job.current_host not in hosts:
        kind, hosts = "none", (job.current_host,)
    interface = job.network_interface_name
    return Distribution(
        kind=kind,
        hosts=hosts,
        current_host=job.current_host,
        processes_per_host=_count(job, PROCESSES_PER_HOST) or (count_gpus() or count_neurons() or 1),
        processes=_count(job, PROCESSES),
        mpi_options=_options(job),
        interface=interface if (interfaces / interface).exists() else None,
    )


def distribution_hosts(job: TrainingJob) -> list[str]:
    """The hosts of the instance groups that the distribution spans; those of this host's group when it names none."""
    groups = {str(group.get("instance_group_name")): group for group in job.instance_groups}
    chosen = job.value(GROUPS)
    names = [chosen] if isinstance(chosen, str) else list(chosen or [])
    if not names and job.current_instance_group in groups:
        names = [job.current_instance_group]
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise PlatformInputError(
            f"hyperparameter {GROUPS} names {unknown!r}; the instance groups of this job are {sorted(groups)!r}."
        )
    return [str(host) for name in names for host in groups[name].get("hosts", [])] or job.hosts


def _kind(job: TrainingJob) -> Kind:
    for name, why in UNSUPPORTED.items():
        if _is_on(job.value(name)):
            raise PlatformInputError(
                f"hyperparameter {name} asks for a distribution that this image does not have: {why}. "
                "Use torch_distributed, Horovod or MPI instead."
            )
    asked = [name for name in KINDS if _is_on(job.value(name))]
    if len({KINDS[name] for name in asked}) > 1:
        raise PlatformInputError(
            f"hyperparameters {' and '.join(asked)} exclude each other; expected one distribution."
        )
    return KINDS[asked[0]] if asked else "none"


def _is_on(value: object) -> bool:
    return value is True or str(value).strip().lower() in ("true", "1")


def _count(job: TrainingJob, name: str) -> int | None:
    value = job.value(name)
    if value in (None, ""):
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise PlatformInputError(f"hyperparameter {name} is {value!r}; expected a whole number of at least 1.")
    return number


def _options(job: TrainingJob) -> tuple[str, ...]:
    value = job.value(MPI_OPTIONS)
    try:
        return tuple(shlex.split(str(value))) if value else ()
    except ValueError as error:
        raise PlatformInputError(
            f"hyperparameter {MPI_OPTIONS} is {value!r}: {error}; expected arguments for mpirun, quoted as in a shell."
        ) from error

"""The hyperparameters by which SageMaker's SDKs choose how a job's processes are started and find each other."""

from __future__ import annotations

import json
from typing import Literal

from local_sagemaker.errors import UsageError

Distribution = Literal["none", "torchrun", "mpi", "horovod", "parameter-server"]

SWITCH = {
    "torchrun": "sagemaker_torch_distributed_enabled",
    "mpi": "sagemaker_mpi_enabled",
    "horovod": "sagemaker_horovod_enabled",
    "parameter-server": "sagemaker_parameter_server_enabled",
}
# One key for every launcher, as the SDKs have it.
PROCESSES_PER_HOST = "sagemaker_mpi_num_of_processes_per_host"
CUSTOM_MPI_OPTIONS = "sagemaker_mpi_custom_mpi_options"


def distribution_hyperparameters(name: Distribution, processes_per_host: int | None = None) -> dict[str, str]:
    """What an SDK would add to a job's hyperparameters, each value as JSON.

    Args:
        name: how the processes are started; ``none`` adds nothing.
        processes_per_host: without it the launcher in the container chooses, with MPI it is 1 as in the SDKs.

    Raises:
        UsageError: if a number of processes is given that nothing would read.
    """
    if processes_per_host is not None and name in {"none", "parameter-server"}:
        raise UsageError(
            f"--processes-per-host {processes_per_host} with --distribution {name}",
            "processes on a host are started by torchrun, mpi or horovod",
            "add --distribution torchrun, or leave out --processes-per-host",
        )
    if name == "none":
        return {}
    sent: dict[str, bool | int | str] = {SWITCH[name]: True}
    if name == "mpi":
        sent |= {PROCESSES_PER_HOST: 1, CUSTOM_MPI_OPTIONS: ""}
    if processes_per_host is not None:
        sent[PROCESSES_PER_HOST] = processes_per_host
    return {key: json.dumps(value) for key, value in sent.items()}

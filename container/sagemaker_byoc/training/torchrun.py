"""PyTorch's torchrun on every host: fixed ranks, the first host as master; or elastic, when restarts are allowed.

Source: PyTorch documentation, "torchrun (Elastic Launch)"; SageMaker's training toolkit for port and order.
"""

import shutil
import sys
from pathlib import Path

from sagemaker_byoc.training.distribution import Distribution
from sagemaker_byoc.training.rank import rank_command


def torchrun_command(
    distribution: Distribution, directory: Path, *, port: int, max_restarts: int, run: str
) -> tuple[str, ...]:
    """The command of this host. With restarts the hosts meet anew after a failure, which needs the c10d rendezvous."""
    hosts = len(distribution.hosts)
    return (
        *_launcher(),
        f"--nnodes={hosts}",
        f"--nproc_per_node={distribution.processes_per_host}",
        f"--max_restarts={max_restarts}",
        *_rendezvous(distribution, port, run, elastic=max_restarts > 0),
        "--no_python",
        *rank_command(directory),
    )


def _rendezvous(distribution: Distribution, port: int, run: str, *, elastic: bool) -> tuple[str, ...]:
    leader = distribution.leader if len(distribution.hosts) > 1 else "127.0.0.1"
    if elastic:
        return (
            "--rdzv_backend=c10d",
            f"--rdzv_endpoint={leader}:{port}",
            f"--rdzv_id={run}",
            f"--rdzv_conf=is_host={int(distribution.is_leader)}",
        )
    return (f"--node_rank={distribution.host_rank}", f"--master_addr={leader}", f"--master_port={port}")


def _launcher() -> tuple[str, ...]:
    """The torchrun that PATH has, else the module it is made of."""
    found = shutil.which("torchrun")
    return (found,) if found else (sys.executable, "-m", "torch.distributed.run")

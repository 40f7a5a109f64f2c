"""Horovod by its Gloo controller: no ssh and no MPI, every host starts its own ranks.

The ranks find each other through a small key-value server on the leader, which is Horovod's own (see
`horovod_rendezvous`). Source: Horovod 0.28, runner/gloo_run.py for the variables and their meaning.
"""

import sys
from collections.abc import Mapping

from sagemaker_byoc.training.distribution import Distribution

PEER_SECONDS = "600"  # Horovod's own 30 s would end a job whose slowest host loads its data for a minute


def rank_environments(
    distribution: Distribution, slots: Mapping[str, int], rendezvous: str, port: int
) -> list[dict[str, str]]:
    """The variables of each rank on this host.

    Args:
        distribution: the job's.
        slots: the number of ranks on each host.
        rendezvous: the leader's address.
        port: of the key-value server.
    """
    host = distribution.current_host
    interface = "lo" if len(distribution.hosts) == 1 else distribution.interface
    first = sum(slots[name] for name in distribution.hosts[: distribution.host_rank])
    return [
        {
            "HOROVOD_HOSTNAME": host,
            "HOROVOD_RANK": str(first + local),
            "HOROVOD_SIZE": str(sum(slots[name] for name in distribution.hosts)),
            "HOROVOD_LOCAL_RANK": str(local),
            "HOROVOD_LOCAL_SIZE": str(slots[host]),
            # "Cross" counts the hosts that have a rank of this local number.
            "HOROVOD_CROSS_RANK": str(
                sum(slots[name] > local for name in distribution.hosts[: distribution.host_rank])
            ),
            "HOROVOD_CROSS_SIZE": str(sum(slots[name] > local for name in distribution.hosts)),
            "HOROVOD_CONTROLLER": "gloo",
            "HOROVOD_CPU_OPERATIONS": "gloo",
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": rendezvous,
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
            "HOROVOD_GLOO_TIMEOUT_SECONDS": PEER_SECONDS,
            **({"HOROVOD_GLOO_IFACE": interface} if interface else {}),
        }
        for local in range(slots[host])
    ]


def rendezvous_command(distribution: Distribution, slots: Mapping[str, int], port: int) -> tuple[str, ...]:
    """The leader's key-value server, for these hosts and their slots."""
    listed = ",".join(f"{host}:{slots[host]}" for host in distribution.hosts)
    return (sys.executable, "-m", "sagemaker_byoc.training.horovod_rendezvous", str(port), listed)

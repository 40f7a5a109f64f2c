"""What theory predicts for many hosts: the time of an all-reduce by its algorithm, and the efficiency of a step.

Sources: P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel
Distrib. Comput. 69 (2009) 117-124; R. Thakur, R. Rabenseifner and W. Gropp, "Optimization of collective communication
operations in MPICH", Int. J. High Perform. Comput. Appl. 19 (2005) 49-66; A. Sergeev and M. Del Balso, "Horovod",
arXiv:1802.05799 (2018); G. Amdahl, AFIPS Spring Joint Computer Conference (1967) 483-485.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2

from machine import table

HOSTS = (8, 16, 32, 64, 128, 256, 512)
BACKWARD = 2 / 3  # of a step's compute: forward is one pass of matrix products, backward two


@dataclass(frozen=True)
class Network:
    """A link of each host, alike in both directions: bytes per second, and seconds that one message takes to begin."""

    name: str
    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Work:
    """A step of one host: the bytes of its gradients, and the seconds it computes."""

    name: str
    size: float
    compute: float


NETWORKS = (Network("25 Gbit/s", 25e9 / 8, 50e-6), Network("100 Gbit/s", 100e9 / 8, 20e-6))
RESNET = Work("102 MB", 102e6, 0.160)
LARGE = Work("1 GB", 1e9, 0.500)
# Horovod's documentation, "Benchmarks": 1,656.82 images per second on 16 GPUs, 64 a step each. 44.5 million parameters.
RESNET_101 = Work("ResNet-101", 178e6, 64 * 16 / 1656.82)
PUBLISHED_HOSTS, PUBLISHED = 128, 0.90


def ring_seconds(ranks: int, size: float, network: Network) -> float:
    """Every rank sends and receives 2(p-1) pieces of size/p."""
    return 2 * (ranks - 1) / ranks * size / network.bandwidth + 2 * (ranks - 1) * network.latency


def tree_seconds(ranks: int, size: float, network: Network) -> float:
    """A binomial tree: reduce and broadcast the whole message."""
    return 2 * log2(ranks) * (network.latency + size / network.bandwidth)


def halving_seconds(ranks: int, size: float, network: Network) -> float:
    """Recursive halving and doubling (Rabenseifner), for a power of two and a network without contention."""
    return 2 * log2(ranks) * network.latency + 2 * (ranks - 1) / ranks * size / network.bandwidth


def crossover(ranks: int, network: Network) -> float:
    """The message, in bytes, from which on the ring is faster than the tree."""
    steps = log2(ranks)
    return network.latency * network.bandwidth * (ranks - 1 - steps) / (steps - (ranks - 1) / ranks)


def efficiency(work: Work, ranks: int, network: Network) -> tuple[float, float]:
    """Compute by step time when each host keeps its batch: the sum after backward, and the sum while it runs."""
    talk = ring_seconds(ranks, work.size, network)
    hidden = max(0.0, talk - BACKWARD * work.compute)
    return work.compute / (work.compute + talk), work.compute / (work.compute + hidden)


def best_split(work: Work, network: Network, most: int = 512) -> tuple[int, float]:
    """The number of hosts at which one step of a fixed global batch is shortest, and how much shorter it is."""
    times = {ranks: work.compute / ranks + ring_seconds(ranks, work.size, network) for ranks in range(2, most + 1)}
    best = min(times, key=times.__getitem__)
    return best, work.compute / times[best]


def report_theory(template: Sequence[Work]) -> list[str]:
    """Tables for 8 to 512 hosts. `template` is the template's measured step by global batch, the smallest first."""
    works = (template[0], RESNET, LARGE)
    columns = [(work, network) for work in works for network in NETWORKS]
    header = ["hosts", *(f"{work.name}, {network.name}" for work, network in columns)]
    seconds = [
        [str(p), *(f"{ring_seconds(p, work.size, network) * 1e3:.1f}" for work, network in columns)] for p in HOSTS
    ]
    shares = [[str(p), *(percent(efficiency(work, p, network)) for work, network in columns)] for p in HOSTS]
    return [
        "## What theory predicts for 8 to 512 hosts",
        "",
        "Computed by `ring.py`, not measured. A ring all-reduce of n bytes over p hosts takes",
        "t = 2(p-1)/p · n/B + 2(p-1) · L: the first term hardly depends on p, which makes the ring optimal in "
        "bandwidth (Patarasuk and Yuan 2009; Horovod, arXiv:1802.05799), the second grows with p. Assumptions: one "
        "link for each host, of the nominal bandwidth B and used by nothing else; a latency L of "
        + " and ".join(f"{network.latency * 1e6:.0f} µs at {network.name}" for network in NETWORKS)
        + "; no stragglers; one rank for a host, or ranks of a host that add up among themselves first, for nothing. "
        "Compute of one step on one host: "
        + ", ".join(f"{work.compute * 1e3:.1f} ms for {work.name}" for work in works)
        + f". The first is measured above (PyTorch alone), with its gradient of {works[0].size / 1e3:.0f} kB; 102 MB "
        "is a network of ResNet-50's 25.6 million parameters, and its time that of 64 images at 400 a second, one GPU; "
        "1 GB is 250 million parameters, its time assumed.",
        "",
        "The sum of one step, milliseconds:",
        "",
        table(header, seconds),
        "",
        (
            "Efficiency when every host keeps its batch (compute by step time): with the sum after backward, as the "
            "template does it / with the sum under way during backward, two thirds of the compute, as "
            "DistributedDataParallel and Horovod's DistributedOptimizer do at best:"
        ),
        "",
        table(header, shares),
        "",
        compare_with_published(),
        "",
        *fixed_batch(template),
        "",
        *other_algorithms(),
    ]


def compare_with_published() -> str:
    """One figure that others have measured on so many hosts."""
    predicted = percent(efficiency(RESNET_101, PUBLISHED_HOSTS, NETWORKS[0]))
    return (
        f'As a check: Horovod\'s documentation ("Benchmarks") reports {PUBLISHED:.0%} for ResNet-101 on '
        f"{PUBLISHED_HOSTS} hosts of four GPUs at 25 Gbit/s. With its {RESNET_101.size / 1e6:.0f} MB and the "
        f"{RESNET_101.compute * 1e3:.0f} ms a step that the same page's throughput on 16 GPUs makes, the formula says "
        f"{predicted}."
    )


def fixed_batch(template: Sequence[Work]) -> list[str]:
    """Amdahl's law: what does not divide limits what dividing the rest can gain."""
    found = []
    for work in template:
        for network in NETWORKS:
            hosts, gain = best_split(work, network)
            found.append(
                f"- {work.name}, {work.compute * 1e3:.1f} ms on one host, {network.name}: at best {gain:.1f} times "
                f"faster, on {hosts} hosts."
            )
    return [
        (
            "If the global batch stays as it is, compute shrinks to 1/p and the sum does not (Amdahl 1967), if compute "
            "divides as well as it can:"
        ),
        "",
        *found,
    ]


def other_algorithms() -> list[str]:
    rows = [
        [
            str(p),
            *(f"{crossover(p, network) / 1e6:.2f}" for network in NETWORKS),
            *(f"{times(p, 1e6, network)}" for network in NETWORKS),
        ]
        for p in HOSTS
    ]
    return [
        (
            "The ring is not the best for small messages. A binomial tree sends the whole message 2·log2(p) times; "
            "recursive halving and doubling (Thakur, Rabenseifner and Gropp 2005) has the ring's bandwidth and the "
            "tree's latency on a network without contention, where a ring only ever talks to its neighbours. Adding up "
            "inside of each host first (hierarchical) makes p the number of hosts and not of ranks: with 8 ranks a "
            "host, the ring's latency term is about an eighth."
        ),
        "",
        table(
            [
                "hosts",
                *(f"ring beats tree from, MB, {network.name}" for network in NETWORKS),
                *(f"1 MB by ring / tree / halving, ms, {network.name}" for network in NETWORKS),
            ],
            rows,
        ),
    ]


def times(ranks: int, size: float, network: Network) -> str:
    found = (algorithm(ranks, size, network) for algorithm in (ring_seconds, tree_seconds, halving_seconds))
    return " / ".join(f"{seconds * 1e3:.1f}" for seconds in found)


def percent(values: Iterable[float]) -> str:
    return " / ".join(f"{value * 100:.0f} %" for value in values)

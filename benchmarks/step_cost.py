"""What a training step of several ranks on this one machine costs beside plain PyTorch's, and the sum of a message."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from containers import OUR_TRAIN, TEMPLATE_CODE, make_base, run_container
from machine import spread, table

PLAIN = "PyTorch alone"
TORCHRUN, DDP, GLOO, MPI = "torchrun", "torchrun, DistributedDataParallel", "Horovod by Gloo", "Horovod by MPI"
ENABLED = {
    TORCHRUN: "sagemaker_torch_distributed_enabled",
    DDP: "sagemaker_torch_distributed_enabled",
    GLOO: "sagemaker_horovod_enabled",
    MPI: "sagemaker_mpi_enabled",
}
RANKS = (1, 2, 4)
JOBS = ((PLAIN, 1), *((way, ranks) for ranks in RANKS for way in ENABLED))
SUMMED = (TORCHRUN, GLOO, MPI)


@dataclass(frozen=True)
class Steps:
    """One job: seconds of the parts of a step by global batch, of a sum by bytes; threads of each rank."""

    threads: int
    gradient_bytes: int
    steps: Mapping[int, Mapping[str, float]]
    sums: Mapping[int, float]


Measured = Mapping[tuple[str, int], Sequence[Steps]]


def measure_steps(image: str, work: Path, way: str, ranks: int) -> Steps:
    asked = {ENABLED[way]: "true", "sagemaker_mpi_num_of_processes_per_host": str(ranks)} if way in ENABLED else {}
    modules = [TEMPLATE_CODE / "network.py", TEMPLATE_CODE / "ranks.py"]
    base = make_base(work / "ml", "steps.py", asked, modules)
    environment = {"SAGEMAKER_PROGRAM": "steps.py", "BENCH_WAY": "ddp" if way == DDP else "seam"}
    run_container(image, base, environment, (OUR_TRAIN,))
    found = json.loads((base / "output" / "steps.json").read_text(encoding="utf-8"))
    return Steps(
        threads=found["threads"],
        gradient_bytes=found["gradient_bytes"],
        steps={int(batch): parts for batch, parts in found["steps"].items()},
        sums={int(size): seconds for size, seconds in found["sums"].items()},
    )


def middle(runs: Sequence[Steps], batch: int, part: str) -> float:
    return median(run.steps[batch][part] for run in runs)


def report_steps(measured: Measured, rounds: int) -> list[str]:
    plain = measured[PLAIN, 1]
    lines = [
        "## A step of the template's network, one host",
        "",
        (
            f"The same global batch on 1, 2 and 4 ranks; {rounds} rounds, each the median of its steps. **Four ranks "
            "share the machine's two cores**, so no time here shrinks as it would with a host for each: the tables "
            "show what a launcher and its sum add. *Compute* is forward, backward and the optimizer; *combining* is "
            "the template's one message a step, with the wait for the slowest rank in it. DistributedDataParallel "
            "sends during backward, so its compute has both."
        ),
        "",
    ]
    for batch in plain[0].steps:
        rows = [row(measured, way, ranks, batch) for way, ranks in JOBS]
        header = [f"global batch {batch}", "ranks", "threads each", "step ms min", "median", "max", "compute ms",
                  "combining ms", "more than PyTorch alone, ms", "times"]  # fmt: skip
        lines += [table(header, rows), ""]
    return lines


def row(measured: Measured, way: str, ranks: int, batch: int) -> list[str]:
    runs = measured[way, ranks]
    alone = middle(measured[PLAIN, 1], batch, "step")
    step = middle(runs, batch, "step")
    return [
        way,
        str(ranks),
        str(runs[0].threads),
        *spread((run.steps[batch]["step"] * 1e3 for run in runs), 2),
        f"{middle(runs, batch, 'compute') * 1e3:.2f}",
        "" if way == DDP else f"{middle(runs, batch, 'combine') * 1e3:.2f}",
        f"{(step - alone) * 1e3:+.2f}",
        f"{step / alone:.2f}",
    ]


def report_sums(measured: Measured) -> list[str]:
    """The time of one sum by its size, and what the ring's formula makes of the two ranks' times for four."""
    gradient = measured[PLAIN, 1][0].gradient_bytes
    sizes = sorted(measured[TORCHRUN, 2][0].sums)
    columns = [(way, ranks) for way in SUMMED for ranks in RANKS if ranks > 1]
    rows = [
        [
            f"{size:,}" + (" (the template's gradient)" if size == gradient else ""),
            *(f"{sum_seconds(measured, way, ranks, size) * 1e3:.2f}" for way, ranks in columns),
        ]
        for size in sizes
    ]
    smallest, largest = sizes[0], sizes[-1]
    predictions = []
    for way in SUMMED:
        low, high = (sum_seconds(measured, way, 2, size) for size in (smallest, largest))
        latency, bandwidth = low / 2, (largest - smallest) / (high - low)
        predicted = 6 * latency + 1.5 * largest / bandwidth
        found = sum_seconds(measured, way, 4, largest)
        predictions.append(
            f"- {way}: {latency * 1e6:.0f} µs and {bandwidth / 1e9:.2f} GB/s at two ranks; for four ranks and "
            f"{largest / 2**20:.0f} MiB that predicts {predicted * 1e3:.0f} ms, measured {found * 1e3:.0f} ms."
        )
    return [
        "## One sum over all ranks (allreduce) by its size, milliseconds",
        "",
        table(["bytes", *(f"{way}, {ranks}" for way, ranks in columns)], rows),
        "",
        (
            "Latency and bandwidth that the ring's formula below gives these times at two ranks, and what it then says "
            "for four, each with a core of its own; with two cores for four ranks the measured time is longer:"
        ),
        "",
        *predictions,
    ]


def sum_seconds(measured: Measured, way: str, ranks: int, size: int) -> float:
    return median(run.sums[size] for run in measured[way, ranks])

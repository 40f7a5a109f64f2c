"""What this image costs beside the training itself, against sagemaker-training's launcher and plain PyTorch.

Run it from anywhere, with a Docker engine and an image with Horovod by MPI (`byoc build` with WITH_HOROVOD=mpi):

    python benchmarks/training.py --image sagemaker-byoc:horovod-mpi           # prints the report
    python benchmarks/training.py --image sagemaker-byoc:horovod-mpi --write   # and makes it benchmarks/training.md

All candidates run in containers of the same image without a network, in turns, after one round that is not counted:

- `first_line.py`: the time to the script's first line;
- `log_cost.py`: what the launcher uses while 40,000 lines are logged, and how many of them arrive whole;
- an MPI job of two ranks whose script takes a tenth of a second;
- `step_cost.py`: a step with torchrun and Horovod at 1, 2 and 4 ranks; `ring.py`: what theory predicts for many hosts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from containers import HERE, OUR_TRAIN, OURS, TOOLKIT, TOOLKIT_TRAIN, make_base, run_container
from first_line import TRAIN_COMMANDS, Training, measure_training, report_training
from log_cost import (
    CASES,
    LAUNCHERS,
    ONE,
    RANK_LAUNCHERS,
    Case,
    Logged,
    measure_cost,
    measure_ranks,
    report_costs,
    report_ranks,
)
from machine import LABEL, ask_docker, describe_machine, publish, spread, table
from ring import Work, report_theory
from step_cost import JOBS, PLAIN, Steps, measure_steps, middle, report_steps, report_sums

REPORT = HERE / "training.md"
SHORT_GOAL = 3.0
QUIET = 1.5  # load average above which others' work is measured as well


@dataclass
class Rounds:
    """What was measured, a list entry for each round that counts."""

    first_lines: dict[str, list[Training]] = field(default_factory=dict)
    costs: dict[tuple[str, Case], list[Logged]] = field(default_factory=dict)
    bare_peaks: list[float] = field(default_factory=list)
    whole: dict[str, list[int]] = field(default_factory=dict)
    short: dict[str, list[float]] = field(default_factory=dict)
    steps: dict[tuple[str, int], list[Steps]] = field(default_factory=dict)


def measure_short(image: str, work: Path, train: str) -> float:
    """Seconds from the container's first instruction to the end of an MPI job of two ranks that take 0.1 s."""
    asked = {"sagemaker_mpi_enabled": "true", "sagemaker_mpi_num_of_processes_per_host": "2"}
    base = make_base(work / "ml", "short.py", asked)
    command = ("python3", "-IS", "/bench/inside/wall.py", train)
    return float(run_container(image, base, {"SAGEMAKER_PROGRAM": "short.py"}, command).splitlines()[-1])


def measure_bare_peak(image: str, work: Path) -> float:
    """Megabytes of a Python that does nothing."""
    code = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')))"
    return int(run_container(image, make_base(work / "ml", "short.py"), {}, ("python3", "-c", code))) / 1024


def rounds(name: str, count: int) -> Iterator[bool]:
    """One round to warm up, then those that count: whether this one does."""
    for number in range(count + 1):
        print(f"{name}: round {number} of {count}", file=sys.stderr, flush=True)
        yield number > 0


def measure_all(image: str, repeats: int) -> Rounds:
    """Every candidate once per round, in turns; fewer rounds of what takes long."""
    found = Rounds()
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        work = Path(folder)
        measure_starts(found, image, work, repeats)
        measure_lines(found, image, work, max(1, repeats // 2))
        for counts in rounds("steps", max(1, repeats // 3)):
            for way, ranks in JOBS if counts else JOBS[:1]:  # each job warms itself up
                note(found.steps, (way, ranks), counts, partial(measure_steps, image, work, way, ranks))
    return found


def measure_starts(found: Rounds, image: str, work: Path, repeats: int) -> None:
    for counts in rounds("first line, short MPI job", repeats):
        for name, command in TRAIN_COMMANDS.items():
            note(found.first_lines, name, counts, partial(measure_training, image, work, command))
        note(found.short, OURS, counts, partial(measure_short, image, work, OUR_TRAIN))
    note(found.short, TOOLKIT, True, partial(measure_short, image, work, TOOLKIT_TRAIN))  # it takes half a minute


def measure_lines(found: Rounds, image: str, work: Path, repeats: int) -> None:
    found.bare_peaks.append(measure_bare_peak(image, work))
    for counts in rounds("lines", repeats):
        for case in (ONE, *CASES):
            for launcher in LAUNCHERS:
                note(found.costs, (launcher, case), counts, partial(measure_cost, image, work, launcher, case))
        for launcher in RANK_LAUNCHERS:
            note(found.whole, launcher, counts, partial(measure_ranks, image, work, launcher))


def note(into: dict[Any, list[Any]], key: object, counts: bool, measure: Callable[[], object]) -> None:
    measured = measure()
    if counts:
        into.setdefault(key, []).append(measured)


def report_short(short: Mapping[str, Sequence[float]]) -> list[str]:
    rows = [[name, str(len(times)), *spread(times, 2)] for name, times in short.items()]
    reached = "reached" if max(short[OURS]) < SHORT_GOAL else "missed"
    return [
        "## An MPI job of two ranks on one host whose script takes 0.1 s",
        "",
        (
            "Seconds from the start of `train` to its end. sagemaker-training starts an ssh server for one host as "
            "well, and sleeps 30 s after the job."
        ),
        "",
        table(["launcher", "rounds", "min", "median", "max"], rows),
        "",
        (
            f"**The toolkit takes {median(short[TOOLKIT]) / median(short[OURS]):.0f} times as long.** "
            f"The goal of less than {SHORT_GOAL:.0f} s is {reached}."
        ),
    ]


def warn_of_load(load: float) -> list[str]:
    """What a busy machine spoils: nothing that is read from a process's own clock."""
    if load <= QUIET:
        return []
    return [
        "",
        (
            "**The machine was busy with other work.** Processor time, memory and whole lines hold; times on the wall "
            "are too long, and those of the steps, where ranks wait for each other, say nothing about the launchers."
        ),
    ]


def write_report(image: str, repeats: int) -> str:
    load = os.getloadavg()[0]
    names = "'sagemaker-training', 'torch', 'horovod', 'mpi4py'"
    versions = ask_docker(
        *("run", "--rm", "--label", LABEL, "--network", "none", image, "python3", "-c"),
        "import platform; from importlib.metadata import version as v; print(', '.join(['Python ' + "
        f"platform.python_version(), *(f'{{n}} {{v(n)}}' for n in ({names}))]))",
    )
    mpi = ask_docker("run", "--rm", "--label", LABEL, "--network", "none", image, "mpirun", "--version")
    found = measure_all(image, repeats)
    plain = found.steps[PLAIN, 1]
    template = [
        Work(f"template, batch {batch}", plain[0].gradient_bytes, middle(plain, batch, "step"))
        for batch in plain[0].steps
    ]
    parts = [
        report_training(found.first_lines),
        report_costs(found.costs, found.bare_peaks[0]),
        report_ranks(found.whole),
        report_short(found.short),
        report_steps(found.steps, len(plain)),
        report_sums(found.steps),
        report_theory(template),
    ]
    return "\n".join(
        [
            "# Training: the launcher, the log, the ranks",
            "",
            "Made by `python benchmarks/training.py --write`; do not edit.",
            "",
            describe_machine(load),
            (
                f"In the image: {versions}, {mpi.splitlines()[0]}. {repeats} rounds of the first line and of the short "
                f"MPI job, {len(found.whole[OURS])} of the log, {len(plain)} of the steps, after one to warm up, all "
                "candidates in turns."
            ),
            *warn_of_load(load),
            *(line for part in parts for line in ("", *part)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="sagemaker-byoc:horovod-mpi", help="image that is measured")
    parser.add_argument("--repeats", type=int, default=6, help="rounds that are counted, fewer of long ones")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args()
    publish(write_report(options.image, options.repeats), REPORT, write=options.write)


if __name__ == "__main__":
    main()

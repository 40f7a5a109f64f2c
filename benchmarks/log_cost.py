"""What a launcher uses while its script logs 40,000 lines, and how many of them arrive as they were written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from containers import OUR_TRAIN, OURS, TOOLKIT, TOOLKIT_TRAIN, make_base, run_container
from inside.log_lines import line_parts
from machine import spread, table

LINES = 40_000
GOAL = 10.0
PROGRAM = "log_lines.py"
CAPTURED = f"{TOOLKIT}, output captured"
PLAIN_TORCHRUN = "torchrun alone"
HOOK = {"SAGEMAKER_TRAINING_MODULE": "captured:main", "PYTHONPATH": "/bench/inside"}
LAUNCHERS = {OURS: (OUR_TRAIN, {}), TOOLKIT: (TOOLKIT_TRAIN, {}), CAPTURED: (TOOLKIT_TRAIN, HOOK)}
RANK_LAUNCHERS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    OURS: ((OUR_TRAIN,), {}),
    PLAIN_TORCHRUN: (("torchrun", "--nproc-per-node", "2", f"/opt/ml/code/{PROGRAM}"), {}),
    CAPTURED: ((TOOLKIT_TRAIN,), {**HOOK, "BENCH_RUNNER": "TorchDistributed"}),
}


@dataclass(frozen=True)
class Case:
    """What the script logs."""

    name: str
    stream: str
    lines: int = LINES
    written: str = "line"  # or "arguments": print() of several arguments
    mention: bool = False

    def environment(self) -> dict[str, str]:
        return {
            "SAGEMAKER_PROGRAM": PROGRAM,
            "BENCH_STREAM": self.stream,
            "BENCH_LINES": str(self.lines),
            "BENCH_PRINT": self.written,
            "BENCH_MENTION": str(int(self.mention)),
        }


ONE = Case("one line", "stderr", lines=1)
CASES = (
    Case("stdout", "stdout"),
    Case("stdout, after a line with an exception's name", "stdout", mention=True),
    Case("stdout, print() of several arguments", "stdout", written="arguments"),
    Case("stderr", "stderr"),
    Case("stderr, after a line with an exception's name", "stderr", mention=True),
    Case("stderr, print() of several arguments", "stderr", written="arguments"),
)


@dataclass(frozen=True)
class Logged:
    """One launcher in one case: processor seconds and peak megabytes of its process alone, and whole lines."""

    cpu: float
    peak: float
    whole: int


Costs = Mapping[tuple[str, Case], Sequence[Logged]]


def measure_cost(image: str, work: Path, launcher: str, case: Case) -> Logged:
    command, added = LAUNCHERS[launcher]
    base = make_base(work / "ml", PROGRAM)
    account = ("python3", "-IS", "/bench/inside/account.py", "/opt/ml/output", command)
    measured = json.loads(run_container(image, base, {**case.environment(), **added}, account).splitlines()[-1])
    # Captured standard error comes out on standard output.
    log = "".join((base / "output" / f"{name}.log").read_text(errors="replace") for name in ("stdout", "stderr"))
    return Logged(measured["cpu"], measured["peak_megabytes"], count_whole(log, ["0"], case.lines))


def measure_ranks(image: str, work: Path, launcher: str) -> int:
    """Whole lines of two ranks on one host, half of the lines each."""
    command, added = RANK_LAUNCHERS[launcher]
    asked = {"sagemaker_torch_distributed_enabled": "true", "sagemaker_mpi_num_of_processes_per_host": "2"}
    base = make_base(work / "ml", PROGRAM, asked)
    case = Case("ranks", "stdout", lines=LINES // 2, written="arguments")
    # Docker's log is compared, not the launcher's own pipe: this is what the platform reads.
    log = run_container(image, base, {**case.environment(), **added}, command)
    return count_whole(log, ["0", "1"], case.lines)


def count_whole(log: str, ranks: Sequence[str], lines: int) -> int:
    """How many of the lines written stand in the log alone and unchanged; a line that comes twice counts once."""
    arrived = Counter(log.split("\n"))
    return sum(" ".join(line_parts(rank, number)) in arrived for rank in ranks for number in range(lines))


def report_costs(costs: Costs, bare_peak: float) -> list[str]:
    rows = []
    for case in (ONE, *CASES):
        for launcher in LAUNCHERS:
            runs = costs[launcher, case]
            spent = spread((run.cpu * 1e3 for run in runs), 0)
            whole = min(run.whole for run in runs)
            rows.append([case.name, launcher, *spent, f"{of_lines(costs, launcher, case) * 1e3:.0f}",
                         f"{median(run.peak for run in runs):.1f}", f"{whole:,}"])  # fmt: skip
    header = ["script logs on", "launcher", "CPU ms min", "median", "max", "for the lines", "peak MB", "whole lines"]
    return [
        f"## The launcher while its script logs {LINES:,} lines",
        "",
        (
            "Processor time and peak resident memory of the launcher's process alone. *For the lines* is the median "
            "less that of the job of one line. *Whole lines* is the worst round's. The toolkit's `train` hands its own "
            "output to the script and sees no line; AWS's framework packages start the same toolkit with the output "
            "captured, to have an error's text. This image passes standard error on as it comes and keeps its end for "
            f"the failure reason, and hands standard output over. A bare Python of this image takes {bare_peak:.1f} MB."
        ),
        "",
        table(header, rows),
        "",
        *[compare(costs, peer) for peer in (TOOLKIT, CAPTURED)],
        "",
        verdict(costs),
    ]


def of_lines(costs: Costs, launcher: str, case: Case) -> float:
    return median(run.cpu for run in costs[launcher, case]) - median(run.cpu for run in costs[launcher, ONE])


def ratios(costs: Costs, peer: str) -> list[float]:
    """The peer's processor time by ours in each case, as medians."""
    return [
        median(run.cpu for run in costs[peer, case]) / median(run.cpu for run in costs[OURS, case]) for case in CASES
    ]


def compare(costs: Costs, peer: str) -> str:
    low, middle, high = spread(ratios(costs, peer), 1)
    peaks = [
        median(run.peak for run in costs[peer, case]) / median(run.peak for run in costs[OURS, case]) for case in CASES
    ]
    small, _, large = spread(peaks, 1)
    return (
        f"- {peer}: {low} to {high} times the processor time of this image's over the six cases (median {middle}), "
        f"{small} to {large} times the memory."
    )


def verdict(costs: Costs) -> str:
    """The goal against each path of the toolkit, case by case."""
    parts = []
    for peer in (TOOLKIT, CAPTURED):
        reached = sum(ratio >= GOAL for ratio in ratios(costs, peer))
        parts.append(f"in {reached} of {len(CASES)} cases against {peer}")
    memory = "reached" if memory_ratio(costs) >= GOAL else "missed"
    read = [case for case in CASES if case.stream == "stderr"]  # the stream that both launchers read
    # Less than a millisecond is not told apart from nothing.
    low, middle, high = spread((of_lines(costs, CAPTURED, c) / max(1e-3, of_lines(costs, OURS, c)) for c in read), 1)
    return (
        f"**The goal of {GOAL:.0f} times less processor time is reached {', '.join(parts)}; "
        f"{GOAL:.0f} times less memory is {memory}.** What remains of this image's launcher is the interpreter's start "
        f"and its imports. For the lines on standard error alone, which both launchers read, the captured path takes "
        f"{low} to {high} times the processor time (median {middle}); reading them adds at most "
        f"{growth(costs, CAPTURED):.1f} MB to its peak, and {growth(costs, OURS):.1f} MB to this image's."
    )


def growth(costs: Costs, launcher: str) -> float:
    """Megabytes on top of a job of one line, in the worst case."""
    peaks = [median(run.peak for run in costs[launcher, case]) for case in (ONE, *CASES)]
    return max(peaks[1:]) - peaks[0]


def memory_ratio(costs: Costs) -> float:
    return max(run.peak for case in CASES for run in costs[CAPTURED, case]) / max(
        run.peak for case in CASES for run in costs[OURS, case]
    )


def report_ranks(whole: Mapping[str, Sequence[int]]) -> list[str]:
    rows = [[name, *(f"{count:,}" for count in (min(counts), max(counts)))] for name, counts in whole.items()]
    delivered = "all" if min(whole[OURS]) == LINES else "not all"
    return [
        f"## Whole lines of two ranks on one host, of {LINES:,}",
        "",
        "A torchrun job whose ranks print() several arguments at a time, unbuffered, which is one write for each.",
        "",
        table(["launcher", "worst round", "best round"], rows),
        "",
        f"This image delivers {delivered}.",
    ]

"""The time to a training script's first line: bare Python, this image's `train` and sagemaker-training's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from containers import OUR_TRAIN, OURS, TOOLKIT, TOOLKIT_TRAIN, make_base, run_container
from machine import spread, table

GOAL = 5.0
FLOOR = "python3 train.py"
TRAIN_COMMANDS = {FLOOR: ("python3", "/opt/ml/code/train.py"), OURS: (OUR_TRAIN,), TOOLKIT: (TOOLKIT_TRAIN,)}


@dataclass(frozen=True)
class Training:
    """Seconds from ``docker run`` to the container's first instruction, and from there to the script's first line."""

    container: float
    first_line: float


def measure_training(image: str, work: Path, command: Sequence[str]) -> Training:
    base = make_base(work / "ml", "train.py")
    begin = time.time()
    printed = run_container(
        image, base, {"SAGEMAKER_PROGRAM": "train.py"}, ("python3", "-IS", "/bench/inside/launch.py", *command)
    )
    stamps = dict(line.split("=") for line in printed.splitlines() if line.startswith(("begin=", "first-line=")))
    return Training(float(stamps["begin"]) - begin, float(stamps["first-line"]) - float(stamps["begin"]))


def report_training(training: Mapping[str, Sequence[Training]]) -> list[str]:
    floor = [one.first_line for one in training[FLOOR]]
    launchers = {
        name: [one.first_line - bare for one, bare in zip(training[name], floor, strict=True)]
        for name in (OURS, TOOLKIT)
    }
    rows = [[name, *spread((one.first_line * 1e3 for one in runs), 0)] for name, runs in training.items()]
    rows += [[f"{name}, less the floor", *spread((t * 1e3 for t in times), 0)] for name, times in launchers.items()]
    container = [one.container * 1e3 for runs in training.values() for one in runs]
    rows.append(["`docker run` to the container's first instruction", *spread(container, 0)])
    ratio = median(launchers[TOOLKIT]) / median(launchers[OURS])
    ratios = [theirs / ours for theirs, ours in zip(launchers[TOOLKIT], launchers[OURS], strict=True)]
    low, middle, high = spread(ratios, 1)
    verdict = "reached" if ratio >= GOAL else "missed"
    return [
        "## To the first line of a training script",
        "",
        "Milliseconds from the container's first instruction.",
        "",
        table(["launcher", "min", "median", "max"], rows),
        "",
        f"**The toolkit's launcher takes {ratio:.1f} times as long as this image's** (ratio of the medians).",
        f"Round by round: {low} to {high}, median {middle}. The goal of {GOAL:.0f} times is {verdict}.",
    ]

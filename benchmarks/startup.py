"""How long the image takes to begin: a training script's first line, and a server's first healthy answer.

Run it from anywhere, with a Docker engine and the image built (`byoc build`):

    python benchmarks/startup.py           # prints the report
    python benchmarks/startup.py --write   # and makes it benchmarks/startup.md

All candidates run in containers of the same image without a network, in turns, after one round that is not counted.
Times are taken inside the container, so that Docker's own start is measured apart from the launchers'. The rows are:

training: `python3 train.py` alone (the floor), this image's `train`, and the `train` of sagemaker-training, which is
in the image as well. A launcher's time is that until the script's first line, less the floor of the same round.

serving: this image's `serve` and a miniature of the public scikit-learn sample (peers/public_sample), with a model
that loads at once and one that takes two seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from containers import HERE, make_base, run_container
from first_line import TRAIN_COMMANDS, Training, measure_training, report_training
from machine import LABEL, ask_docker, describe_machine, publish, spread, table

REPORT = HERE / "startup.md"
WORKERS = 2
SLOW_LOAD = 2.0
OUR_SERVE, SAMPLE = "this image's serve", "public sample's shape"
SERVE_COMMANDS = {OUR_SERVE: "/opt/program/serve", SAMPLE: "/bench/peers/public_sample/serve"}


@dataclass(frozen=True)
class Serving:
    """Seconds from starting ``serve`` to the first 200 on /ping, and each worker's first answer after that."""

    ready: float
    answers: Sequence[float]


def measure_serving(image: str, work: Path, server: str, load: float) -> Serving:
    base = make_base(work / "ml", "inference.py")
    environment = {"BENCH_LOAD_SECONDS": str(load), "MODEL_SERVER_WORKERS": str(WORKERS)}
    printed = run_container(image, base, environment, ("python3", "/bench/inside/probe.py", server))
    measured = json.loads(printed.splitlines()[-1])
    return Serving(measured["ready"], measured["answers"])


def measure_all(image: str, repeats: int) -> tuple[dict[str, list[Training]], dict[tuple[str, float], list[Serving]]]:
    """Every candidate once per round, in turns; the first round warms the caches and is not counted."""
    training: dict[str, list[Training]] = {name: [] for name in TRAIN_COMMANDS}
    serving: dict[tuple[str, float], list[Serving]] = {
        (name, load): [] for load in (0.0, SLOW_LOAD) for name in SERVE_COMMANDS
    }
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as work:
        for number in range(repeats + 1):
            for name, command in TRAIN_COMMANDS.items():
                trained = measure_training(image, Path(work), command)
                if number:
                    training[name].append(trained)
            for (name, load), measured in serving.items():
                served = measure_serving(image, Path(work), SERVE_COMMANDS[name], load)
                if number:
                    measured.append(served)
    return training, serving


def report_serving(serving: Mapping[tuple[str, float], Sequence[Serving]]) -> list[str]:
    ready = {key: [run.ready for run in runs] for key, runs in serving.items()}
    slowest = {key: [max(run.answers) for run in runs] for key, runs in serving.items()}
    lines = [
        "## To a server's first 200 on /ping",
        "",
        f"Seconds from the start of `serve`, asked every 5 ms; {WORKERS} workers.",
        "",
        table(["server, model's load time", "min", "median", "max"], [row(k, v, 1, 2) for k, v in ready.items()]),
        "",
    ]
    lines += [compare(ready, load, "to the first 200, this image takes") for load in (0.0, SLOW_LOAD)]
    lines += [
        "",
        "## A worker's first answer, once /ping says 200",
        "",
        f"Milliseconds, of the slowest of {WORKERS} workers in each round, while 8 clients send requests.",
        "",
        table(["server, model's load time", "min", "median", "max"], [row(k, v, 1e3, 1) for k, v in slowest.items()]),
        "",
    ]
    lines += [compare(slowest, load, "for a worker's first answer, this image takes") for load in (0.0, SLOW_LOAD)]
    return lines


def row(key: tuple[str, float], values: Sequence[float], scale: float, digits: int) -> list[str]:
    return [f"{key[0]}, {key[1]:.0f} s", *spread((value * scale for value in values), digits)]


def compare(values: Mapping[tuple[str, float], Sequence[float]], load: float, what: str) -> str:
    ratio = median(values[OUR_SERVE, load]) / median(values[SAMPLE, load])
    return f"- Model that loads in {load:.0f} s: {what} {ratio:.3g} times what the sample's shape takes."


def write_report(image: str, repeats: int) -> str:
    load = os.getloadavg()[0]
    versions = ask_docker(
        *("run", "--rm", "--label", LABEL, "--network", "none", image, "python3", "-c"),
        "import platform; from importlib.metadata import version as v; print(', '.join(['Python ' + "
        "platform.python_version(), *(f'{n} {v(n)}' for n in ('sagemaker-training', 'gunicorn', 'flask'))]))",
    )
    training, serving = measure_all(image, repeats)
    return "\n".join(
        [
            "# Start-up: training and serving",
            "",
            "Made by `python benchmarks/startup.py --write`; do not edit.",
            "",
            describe_machine(load),
            f"In the image: {versions}. {repeats} rounds after one to warm up, all candidates in turns.",
            "",
            *report_training(training),
            "",
            *report_serving(serving),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="sagemaker-byoc:latest", help="image that is measured")
    parser.add_argument("--repeats", type=int, default=7, help="rounds that are counted")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args()
    publish(write_report(options.image, options.repeats), REPORT, write=options.write)


if __name__ == "__main__":
    main()

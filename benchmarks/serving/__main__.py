"""Serve the same models with every server, side by side, and report.

Run it from the root of a checkout, by a Python with the package, its `dev` extras and torch (`make setup`); wrk and
nginx have to be installed, Java for multi-model-server, Docker and the image for the start of containers:

    python -m benchmarks.serving --quick           # three minutes: a first impression
    python -m benchmarks.serving --write           # half an hour: everything, and benchmarks/serving.md

The other servers' packages are installed once, into environments below a cache folder (--cache). Raw results go into
a JSON file (--out), of which --report makes the report again without measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine, publish
from benchmarks.serving.cold import measure_cold
from benchmarks.serving.environments import default_cache, python_of, versions
from benchmarks.serving.measure import Plan, as_document, measure, measure_memory, note
from benchmarks.serving.peer import Peer
from benchmarks.serving.peers import OURS, PEERS
from benchmarks.serving.report import write_report
from benchmarks.serving.results import Results
from benchmarks.serving.workloads import CONNECTIONS, LARGE, WORKLOADS

HERE = Path(__file__).resolve().parent
REPORT = HERE.with_suffix(".md")
RESULTS = HERE / "results.json"
QUICK_WORKLOADS = ("noop", "accelerator")
PARTS = ("load", "starts", "memory")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="no-op and accelerator, 32 connections, one round of 2 s")
    parser.add_argument("--servers", type=names_of(PEERS), default=list(PEERS), help=f"some of {','.join(PEERS)}")
    parser.add_argument("--workloads", type=names_of(WORKLOADS), help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--parts", type=names_of(PARTS), help=f"some of {','.join(PARTS)}; the quick run has load")
    parser.add_argument("--connections", type=numbers, help="leave out all connections but these: 1,32")
    parser.add_argument("--seconds", type=float, help="length of a window: 5, quick 2")
    parser.add_argument("--rounds", type=int, help="rounds: 3, quick 1")
    parser.add_argument("--no-tuning", action="store_true", help="do not try how long a batch should wait")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the servers' environments")
    parser.add_argument("--image", default="sagemaker-byoc:latest", help="image whose start is measured")
    parser.add_argument("--out", type=Path, help=f"raw results; {RESULTS.name} beside this file when writing")
    parser.add_argument("--report", type=Path, metavar="RESULTS", help="do not measure; report these results")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name} and its plots")
    return parser.parse_args()


def names_of(known: Any) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is not one of {', '.join(known)}")
        return names

    return parse


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def make_plan(options: argparse.Namespace) -> Plan:
    quick = options.quick
    names = options.workloads or (QUICK_WORKLOADS if quick else list(WORKLOADS))
    seconds = options.seconds or (2.0 if quick else 5.0)
    return Plan(
        peers=[PEERS[name] for name in options.servers],
        workloads=[WORKLOADS[name] for name in names],
        connections=options.connections or ((1, 32) if quick else CONNECTIONS),
        seconds=seconds,
        other_seconds=min(2.0, seconds),
        warm_seconds=1.0,
        rounds=options.rounds or (1 if quick else 3),
        tunes=not (quick or options.no_tuning),
        cache=options.cache,
        workers=len(os.sched_getaffinity(0)),
    )


def memory_workers(peer: Peer) -> tuple[int, ...]:
    return (1, 4) if peer.name in OURS else (4,)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Install what is missing, measure, and return the raw results."""
    plan = make_plan(options)
    parts = options.parts or (PARTS[:1] if options.quick else PARTS)
    for peer in plan.peers:
        python_of(peer, plan.cache)
    load = os.getloadavg()[0]
    found = as_document(measure(plan if "load" in parts else replace(plan, workloads=())))
    memory = measure_memory(plan, LARGE, memory_workers) if "memory" in parts else []
    cold, failures = measure_cold(plan, WORKLOADS["cnn"], options.image) if "starts" in parts else ([], [])
    return {
        "machine": describe_machine(load),
        "load_before": load,
        "seconds": plan.seconds,
        "rounds": plan.rounds,
        "versions": {peer.name: versions(peer, plan.cache) for peer in plan.peers},
        **found,
        "failures": found["failures"] + failures,
        "memory": memory,
        "cold": [asdict(one) for one in cold],
    }


def main() -> None:
    # A stop ends the servers as well: it unwinds like any error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    options = read_options()
    if options.report:
        document = json.loads(options.report.read_text(encoding="utf-8"))
    else:
        document = run(options)
        out = options.out or (RESULTS if options.write else None)
        if out:
            out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            note(f"raw results are in {out}")
    target = REPORT if options.write else options.cache / "serving.md"
    publish(write_report(Results(document), target), target, write=options.write)


if __name__ == "__main__":
    main()

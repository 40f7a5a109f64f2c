"""What an endpoint's router costs: each container is asked directly and through the router, in turns.

Run it from anywhere, with wrk, a Docker engine and the image built (`byoc build`):

    python benchmarks/router.py           # prints the report
    python benchmarks/router.py --write   # and makes it benchmarks/router.md

The containers are a no-op and one that answers after 10 ms, both processes of this machine that cost next to nothing,
and one container of the real image with a model of no cost. wrk keeps 1, 8, 32 and 128 connections busy; a window is
asked directly and then through the router, in each round; a figure is the rounds' middle one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from containers import HERE
from machine import LABEL, ask_docker, describe_machine, publish, table
from serving.load import Load, throughput

REPORT = HERE / "router.md"
CONNECTIONS = (1, 8, 32, 128)
BODY = b'{"instances": [[0.5, 1.5, 2.5, 3.5]]}'
ADDED_GOAL_MS, GOAL_CONNECTIONS = 1.0, 32
NO_OP, SLEEPING, REAL = "no-op", "10 ms", "the image"
READY_SECONDS = 120.0
SHARED = (
    "wrk, the router and the container share the cores: where these are busy, a request through the router waits for "
    "the router's processor time and for the kernel's second pair of connections."
)
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Address:
    host: str
    port: int


@dataclass(frozen=True)
class Window:
    """What clients saw directly and through the router, and the router's processor time for a request, in µs."""

    direct: Load
    routed: Load
    cpu: float


@dataclass
class Found:
    """Windows of each container and number of connections."""

    windows: dict[tuple[str, int], list[Window]] = field(default_factory=dict)

    def middle(self, name: str, connections: int, side: str, what: str) -> float:
        return median(getattr(getattr(one, side), what) for one in self.windows[name, connections])

    def rate(self, name: str, connections: int, side: str) -> float:
        loads = [getattr(one, side) for one in self.windows[name, connections]]
        return median(load.requests / load.seconds for load in loads)

    def cpu(self, name: str, connections: int) -> float:
        return median(one.cpu for one in self.windows[name, connections])

    def failed(self, name: str, connections: int) -> int:
        return sum(one.direct.failed + one.routed.failed for one in self.windows[name, connections])


@contextmanager
def process(*arguments: str) -> Iterator[tuple[int, int]]:
    """A Python program that prints its port; its process id and the port."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started.pid, int(next(iter(started.stdout or ())))
        finally:
            started.terminate()


@contextmanager
def upstream(seconds: float) -> Iterator[Address]:
    with process(str(HERE / "inside" / "router_upstream.py"), str(seconds)) as (_, port):
        yield Address("127.0.0.1", port)


@contextmanager
def container(image: str, lane: str) -> Iterator[Address]:
    """One container of the image with a model of no cost, reached by its own address."""
    with tempfile.TemporaryDirectory(prefix="byoc-bench-") as folder:
        code = Path(folder) / "code"
        code.mkdir()
        shutil.copy(HERE / "inside" / "no_op.py", code / "inference.py")
        Path(folder).chmod(0o755)
        mount = ["--volume", f"{folder}:/opt/ml/model:ro"]
        environment = ["--env", f"BYOC_LANE={lane}", "--env", "BYOC_QUEUE_LIMIT=256"]
        name = ask_docker("run", "--detach", "--label", LABEL, *environment, *mount, image, "serve")
        try:
            address = ask_docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", name)
            found = Address(address, 8080)
            wait_until_ready(found, name)
            yield found
        finally:
            ask_docker("rm", "--force", name)


def wait_until_ready(address: Address, name: str) -> None:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://{address.host}:{address.port}/ping", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the container is not ready; its log ends:\n{ask_docker('logs', '--tail', '30', name)}")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / TICK


def measure(found: Found, name: str, address: Address, repeats: int, seconds: float) -> None:
    """One round to warm up, then those that count."""
    with process(str(HERE / "inside" / "router_process.py"), address.host, str(address.port)) as (pid, port):
        for number in range(repeats + 1):
            print(f"{name}: round {number} of {repeats}", file=sys.stderr, flush=True)
            for connections in CONNECTIONS:
                length = seconds if number else 1.0
                direct = throughput(address.port, "/invocations", BODY, connections, length, host=address.host)
                before = cpu_seconds(pid)
                routed = throughput(port, "/invocations", BODY, connections, length)
                cpu = (cpu_seconds(pid) - before) / max(1, routed.requests) * 1e6
                if number:
                    found.windows.setdefault((name, connections), []).append(Window(direct, routed, cpu))


def write_report(image: str, lane: str, repeats: int, seconds: float) -> str:
    load_before = os.getloadavg()[0]
    found = Found()
    with upstream(0.0) as address:
        measure(found, NO_OP, address, repeats, seconds)
    with upstream(0.01) as address:
        measure(found, SLEEPING, address, repeats, seconds)
    with container(image, lane) as address:
        measure(found, REAL, address, repeats, seconds)
    sections = [
        "# The router: asked through it and asked directly",
        "Made by `python benchmarks/router.py --write`; do not edit.",
        describe_machine(load_before),
        f"{repeats} round(s) of windows of {seconds:g} s; the middle one of each. {SHARED}",
        "## Goals",
        report_goals(found),
    ]
    titles = {
        NO_OP: "A container of no cost",
        SLEEPING: "A container that answers after 10 ms",
        REAL: f"One container of the image, model of no cost, BYOC_LANE={lane}",
    }
    for name, title in titles.items():
        sections += [f"## {title}", report_windows(found, name)]
    return "\n\n".join(sections)


def report_goals(found: Found) -> str:
    rows = []
    for name in (NO_OP, SLEEPING, REAL):
        direct, routed = (found.middle(name, GOAL_CONNECTIONS, side, "p50") for side in ("direct", "routed"))
        reached = "yes" if routed - direct < ADDED_GOAL_MS else "**no**"
        goal = f"{name}, {GOAL_CONNECTIONS} connections: p50 less than {ADDED_GOAL_MS:g} ms over asking directly"
        rows.append([goal, f"{direct:.2f} ms, {routed:.2f} ms: {routed - direct:+.2f} ms", reached])
    best = max(found.rate(REAL, connections, "direct") for connections in CONNECTIONS)
    cpu = min(found.cpu(REAL, connections) for connections in CONNECTIONS)
    able = 1e6 / cpu
    goal = "the image: a core's worth of the router takes more requests than the container answers"
    rows.append([goal, f"{able:,.0f} of {best:,.0f} a second", "yes" if able > best else "**no**"])
    return table(["goal", "measured", "reached"], rows)


def report_windows(found: Found, name: str) -> str:
    header = ["connections", "req/s direct", "req/s routed", "p50 ms direct", "p50 ms routed", "p99 ms direct"]
    header += ["p99 ms routed", "router's CPU µs", "failed"]
    rows = []
    for connections in CONNECTIONS:
        cells = [str(connections)]
        cells += [f"{found.rate(name, connections, side):,.0f}" for side in ("direct", "routed")]
        for what in ("p50", "p99"):
            cells += [f"{found.middle(name, connections, side, what):.2f}" for side in ("direct", "routed")]
        rows.append([*cells, f"{found.cpu(name, connections):.0f}", str(found.failed(name, connections))])
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="sagemaker-byoc:latest", help="image that is measured")
    parser.add_argument("--lane", default="wsgi", choices=("wsgi", "asgi"), help="BYOC_LANE of its container")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that are counted")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a window")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name}")
    options = parser.parse_args()
    text = write_report(options.image, options.lane, options.repeats, options.seconds)
    publish(text, REPORT, write=options.write)


if __name__ == "__main__":
    main()

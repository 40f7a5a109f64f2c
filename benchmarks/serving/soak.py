"""Load for minutes while workers are killed and reloaded and clients misbehave: what is lost, and what grows.

Run it from the root of a checkout, as the benchmarks of serving:

    python -m benchmarks.serving.soak --minutes 10 --write       # ten minutes a lane, and benchmarks/soak.md

Capacity is measured first, with the clients that make the load. Then each of them keeps its connection and sends at its
own pace, slower callers come, leave in the middle or send large bodies, every slot is reloaded each 30 seconds, and a
worker is killed each 45. What a worker itself gains takes longer than that to show: --reload-seconds, --kill-seconds.
A request counts as lost unless it is answered with 200. Those that were in flight when a worker was killed are counted
apart: at that moment nobody but the worker knows whose they are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe_machine, publish, table
from benchmarks.serving.account import memory_megabytes, stat
from benchmarks.serving.environments import default_cache
from benchmarks.serving.peer import Case
from benchmarks.serving.peers import PEERS
from benchmarks.serving.server import Server, free_port
from benchmarks.serving.workloads import WORKLOADS, prepare

REPORT = Path(__file__).resolve().parents[1] / "soak.md"
RESULTS = REPORT.with_suffix(".json")
LANES = {"wsgi": "ours-wsgi", "asgi": "ours-asgi"}
SAMPLE_SECONDS = 2.0
# What the last third may have more than the first. Pools of threads fill by and by, and are new after a reload.
GROWTH = {"megabytes": 0.05, "files": 0.25, "threads": 0.5}
BIG_BYTES = 4_000_000
ANSWER_SECONDS = 60.0


class Broken(Exception):
    """A connection that ended before its answer was whole."""


@dataclass
class Requests:
    """What became of the requests of those that stay for their answer; and how many were in flight at each kill."""

    answered: int = 0
    in_killed: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    by_client: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    kills: list[tuple[float, int]] = field(default_factory=list)
    in_flight: int = 0

    def end(self, kind: str, began: float, outcome: str) -> None:
        """One request is over: `200`, another status, or what broke."""
        now = time.monotonic()
        self.by_client[kind] += 1
        if outcome == "200":
            self.answered += 1
            if kind == "steady":
                self.times.append(now - began)
        elif any(began <= killed + 0.05 and killed <= now for killed, _ in self.kills):
            self.in_killed[outcome] += 1
        else:
            self.lost[f"{kind}: {outcome}"] += 1


@dataclass(frozen=True)
class Sample:
    """The server's processes at one moment."""

    seconds: float
    processes: int
    megabytes: float
    files: int
    threads: int


@dataclass(frozen=True)
class Outcome:
    """One lane's run, as it is reported."""

    lane: str
    minutes: float
    capacity: float
    rate: float
    p50: float
    p99: float
    answered: int
    by_client: dict[str, int]
    lost: dict[str, int]
    in_killed: dict[str, int]
    in_flight_at_kills: int
    reloads: int
    kills: int
    trends: dict[str, tuple[float, float]]
    samples: list[Sample]
    ended_well: bool

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, nothing grew, and it ended by itself."""
        bounded = sum(self.in_killed.values()) <= self.in_flight_at_kills
        flat = all(grew(*pair) <= GROWTH[name] for name, pair in self.trends.items())
        return not self.lost and bounded and flat and self.ended_well


@dataclass(frozen=True)
class Endpoint:
    """Where requests go."""

    port: int
    body: bytes

    @property
    def head(self) -> bytes:
        return self.head_for(len(self.body))

    def head_for(self, length: int) -> bytes:
        return (
            f"POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    async def connect(self) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))


@dataclass(frozen=True)
class Connection:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, pause: float = 0.0) -> str:
        """The status of the next answer, whose body is read in whole. Raises Broken."""
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or -1)
            while pause and length > 0:
                read = await self.reader.readexactly(min(16, length))
                length -= len(read)
                await asyncio.sleep(pause)
            await self.reader.readexactly(max(0, length))
        except (OSError, EOFError) as error:
            raise Broken(type(error).__name__) from error
        return head.split()[1]

    def close(self) -> None:
        self.writer.transport.abort()


Client = Callable[[Endpoint, Requests], Coroutine[Any, Any, None]]


async def ask(requests: Requests, kind: str, exchange: Callable[[], Coroutine[Any, Any, str]]) -> str:
    """One request whose outcome counts."""
    began = time.monotonic()
    requests.in_flight += 1
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            outcome = await exchange()
    except (OSError, Broken) as error:
        outcome = f"{type(error).__name__} {error}"
    finally:
        requests.in_flight -= 1
    requests.end(kind, began, outcome)
    return outcome


async def steady(endpoint: Endpoint, requests: Requests, pace: float) -> None:
    """Keeps its connection and sends every `pace` seconds, or when the answer is there, if that is later."""
    connection = await endpoint.connect()
    message = endpoint.head + endpoint.body

    async def exchange() -> str:
        await connection.send(message)
        return await connection.answer()

    due = time.monotonic() + random.random() * pace  # noqa: S311 - no secret
    try:
        while True:
            await asyncio.sleep(due - time.monotonic())
            due = max(due + pace, time.monotonic() - pace)
            outcome = await ask(requests, "steady", exchange)
            if not outcome.isdecimal():
                connection.close()
                connection = await endpoint.connect()
    finally:
        connection.close()


async def slow_sender(endpoint: Endpoint, requests: Requests) -> None:
    """Sends a few bytes at a time."""
    connection = await endpoint.connect()

    async def exchange() -> str:
        message = endpoint.head + endpoint.body
        for start in range(0, len(message), 32):
            await connection.send(message[start : start + 32])
            await asyncio.sleep(0.2)
        return await connection.answer()

    try:
        await ask(requests, "slow sender", exchange)
    finally:
        connection.close()


async def slow_reader(endpoint: Endpoint, requests: Requests) -> None:
    """Takes its answer a few bytes at a time."""
    connection = await endpoint.connect()

    async def exchange() -> str:
        await connection.send(endpoint.head + endpoint.body)
        return await connection.answer(pause=0.3)

    try:
        await ask(requests, "slow reader", exchange)
    finally:
        connection.close()


async def big_body(endpoint: Endpoint, requests: Requests) -> None:
    """The same request in four megabytes: JSON may have spaces."""
    connection = await endpoint.connect()
    body = endpoint.body + b" " * (BIG_BYTES - len(endpoint.body))

    async def exchange() -> str:
        await connection.send(endpoint.head_for(len(body)) + body)
        return await connection.answer()

    try:
        await ask(requests, "big body", exchange)
    finally:
        connection.close()
    await asyncio.sleep(1)


async def leaver(endpoint: Endpoint, requests: Requests) -> None:
    """Goes in the middle of its body, or before its answer; it can lose nothing."""
    connection = await endpoint.connect()
    message = endpoint.head + endpoint.body
    cut = random.choice((len(endpoint.head) // 2, len(endpoint.head) + 10, len(message)))  # noqa: S311 - no secret
    try:
        with contextlib.suppress(OSError):
            await connection.send(message[:cut])
            await asyncio.sleep(random.choice((0, 0.002, 0.1)))  # noqa: S311 - no secret
    finally:
        connection.close()
    requests.by_client["left"] += 1
    await asyncio.sleep(0.1)


ODD_CLIENTS: Sequence[Client] = (slow_sender, slow_sender, slow_reader, slow_reader, big_body, leaver, leaver)


async def again_and_again(client: Client, endpoint: Endpoint, requests: Requests) -> None:
    while True:
        try:
            await client(endpoint, requests)
        except OSError as error:  # not even a connection
            requests.lost[f"{client.__name__}: {error}"] += 1
            await asyncio.sleep(0.1)


async def for_a_while(tasks: Sequence[Coroutine[Any, Any, None]], seconds: float) -> None:
    """All at once for that time. A task that fails is a mistake in this file: it is raised."""
    running = [asyncio.ensure_future(task) for task in tasks]
    done, _ = await asyncio.wait(running, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    for task in done:
        task.result()


class Chaos:
    """What is done to the server, and what it has meanwhile."""

    def __init__(self, server: Server, options: argparse.Namespace, requests: Requests) -> None:
        self.server, self.options, self.requests = server, options, requests
        self.reloads = 0
        self.began = time.monotonic()
        self.samples: list[Sample] = []

    async def reload(self) -> None:
        while True:
            await asyncio.sleep(self.options.reload_seconds)
            self.server.process.send_signal(signal.SIGHUP)
            self.reloads += 1

    async def kill(self) -> None:
        while True:
            await asyncio.sleep(self.options.kill_seconds)
            victim = random.choice(worker_pids(self.server.process.pid))  # noqa: S311 - no secret
            self.requests.kills.append((time.monotonic(), self.requests.in_flight))
            os.kill(victim, signal.SIGKILL)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            pids = self.server.account.members()
            self.samples.append(
                Sample(
                    round(time.monotonic() - self.began, 1),
                    len(pids),
                    memory_megabytes(pids, "Pss_Anon"),
                    sum(count_files(pid) for pid in pids),
                    sum(count_threads(pid) for pid in pids),
                )
            )


def worker_pids(serve: int) -> list[int]:
    """The children of gunicorn's master."""
    master = next(pid for pid in children(serve) if b"nginx" not in Path(f"/proc/{pid}/cmdline").read_bytes())
    return children(master)


def children(parent: int) -> list[int]:
    text = "".join(file.read_text(encoding="ascii") for file in Path(f"/proc/{parent}/task").glob("*/children"))
    return [int(pid) for pid in text.split()]


def count_files(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return 0


def count_threads(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(stat(pid)[17])
    return 0


def trends(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """Medians of the first and the last third; samples with a worker more or less than usual tell of something else."""
    usual = Counter(sample.processes for sample in samples).most_common(1)[0][0]
    kept = [sample for sample in samples if sample.processes == usual]
    third = max(1, len(kept) // 3)
    parts = kept[:third], kept[-third:]
    return {
        name: (median(getattr(s, name) for s in parts[0]), median(getattr(s, name) for s in parts[1]))
        for name in ("megabytes", "files", "threads")
    }


def grew(before: float, after: float) -> float:
    return after / before - 1


async def measure_capacity(endpoint: Endpoint, connections: int, seconds: float) -> float:
    """Answers a second where nobody waits. The first seconds only warm it up."""
    rate = 0.0
    for length in (seconds / 2, seconds):
        requests = Requests()
        await for_a_while([steady(endpoint, requests, 0.0) for _ in range(connections)], length)
        rate = requests.answered / length
    return rate


async def soak(server: Server, options: argparse.Namespace, lane: str) -> Outcome:
    """One lane's run, with a server that is ready."""
    endpoint = Endpoint(server.case.port, server.body)
    capacity = await measure_capacity(endpoint, options.connections, options.capacity_seconds)
    rate = options.load * capacity
    print(f"{lane}: {capacity:.0f} answers a second at most; {rate:.0f} from now on", flush=True)
    requests = Requests()
    chaos = Chaos(server, options, requests)
    load = [steady(endpoint, requests, options.connections / rate) for _ in range(options.connections)]
    odd = [again_and_again(client, endpoint, requests) for client in ODD_CLIENTS]
    await for_a_while([*load, *odd, chaos.reload(), chaos.kill(), chaos.watch()], options.minutes * 60)
    times = sorted(requests.times)
    return Outcome(
        lane=lane,
        minutes=options.minutes,
        capacity=capacity,
        rate=len(times) / (options.minutes * 60),
        p50=times[len(times) // 2] * 1000,
        p99=times[len(times) * 99 // 100] * 1000,
        answered=requests.answered,
        by_client=dict(requests.by_client),
        lost=dict(requests.lost),
        in_killed=dict(requests.in_killed),
        in_flight_at_kills=sum(flying for _, flying in requests.kills),
        reloads=chaos.reloads,
        kills=len(requests.kills),
        trends=trends(chaos.samples),
        samples=chaos.samples,
        ended_well=True,
    )


def run_lane(lane: str, options: argparse.Namespace) -> Outcome:
    """Start a server, soak it, and see it end."""
    workload = WORKLOADS[options.workload]
    with tempfile.TemporaryDirectory(prefix="byoc-soak-") as folder:
        model = prepare(workload, options.cache / "models")
        case = Case(workload, sys.executable, model, Path(folder), free_port(), options.workers, 0, 0.0)
        server = Server(PEERS[LANES[lane]], case)
        try:
            server.wait_until_ready()
            outcome = asyncio.run(soak(server, options, lane))
        finally:
            server.process.terminate()
            with contextlib.suppress(Exception):
                server.process.wait(30)
            code = server.process.poll()
            server.close()
            if options.keep_log:
                options.keep_log.write_bytes(server.log.read_bytes())
    return Outcome(**{**vars(outcome), "ended_well": code == 0})


def report(outcomes: Sequence[Outcome], machine: str) -> str:
    rows = [
        [
            outcome.lane,
            f"{outcome.capacity:.0f}",
            f"{outcome.rate:.0f}",
            f"{outcome.p50:.1f}",
            f"{outcome.p99:.1f}",
            f"{outcome.answered:,}",
            str(sum(outcome.lost.values())),
            f"{sum(outcome.in_killed.values())} of {outcome.in_flight_at_kills}",
            f"{outcome.reloads}, {outcome.kills}",
        ]
        for outcome in outcomes
    ]
    growth = [
        [f"{outcome.lane}, {name}", f"{first:.0f}", f"{last:.0f}", f"{100 * grew(first, last):+.1f} %"]
        for outcome in outcomes
        for name, (first, last) in outcome.trends.items()
    ]
    header = [
        "lane",
        "capacity, 1/s",
        "load, 1/s",
        "p50, ms",
        "p99, ms",
        "answered",
        "lost",
        "in killed",
        "reloads, kills",
    ]
    details = [f"- {o.lane}: lost {o.lost or 'nothing'}; clients {o.by_client}; {verdict(o)}" for o in outcomes]
    return "\n\n".join(
        [
            "# A soak of `serve`",
            "Written by `python -m benchmarks.serving.soak`; its text says what is done and what counts.",
            machine,
            table(header, rows),
            "In killed: requests that failed, of all that were in flight at the moments when a worker was killed.",
            table(["median of a third of the run", "first", "last", "growth"], growth),
            "\n".join(details),
        ]
    )


def verdict(outcome: Outcome) -> str:
    return "it holds" if outcome.holds else "it does not hold"


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.soak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="length of each lane's run: 10")
    parser.add_argument("--lanes", default="wsgi,asgi", help="wsgi, asgi, or both with a comma: both")
    parser.add_argument("--workload", choices=("noop", "cnn"), default="cnn", help="the model: cnn")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="worker processes: the cores")
    parser.add_argument("--connections", type=int, default=16, help="clients that keep their connection: 16")
    parser.add_argument("--load", type=float, default=0.8, help="their load, as a part of the capacity: 0.8")
    parser.add_argument("--reload-seconds", type=float, default=30.0, help="between two reloads of every slot: 30")
    parser.add_argument("--kill-seconds", type=float, default=45.0, help="between two kills of a worker: 45")
    parser.add_argument("--capacity-seconds", type=float, default=10.0, help="how long capacity is measured: 10")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the models")
    parser.add_argument("--keep-log", type=Path, help="where the server's log is to be kept")
    parser.add_argument("--write", action="store_true", help=f"write {REPORT.name} and {RESULTS.name}")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    before = os.getloadavg()[0]
    outcomes = [run_lane(lane, options) for lane in options.lanes.split(",")]
    publish(report(outcomes, describe_machine(before)), REPORT, write=options.write)
    if options.write:
        RESULTS.write_text(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n", encoding="utf-8")
    return 0 if all(outcome.holds for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())

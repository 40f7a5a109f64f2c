"""Measure in turns: for each workload all servers are started, and only the one whose turn it is may run."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.serving import load
from benchmarks.serving.account import memory_megabytes
from benchmarks.serving.environments import python_of
from benchmarks.serving.peer import MOST_ROWS, Case, Peer
from benchmarks.serving.peers import OURS
from benchmarks.serving.server import Server, ServerFailed, free_port
from benchmarks.serving.workloads import INSIDE, Workload, expected, prepare

TUNED_AT = 32
UNBATCHED = ", unbatched"


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long; `connections` leaves out those that are not in it."""

    peers: Sequence[Peer]
    workloads: Sequence[Workload]
    connections: Sequence[int]
    seconds: float
    other_seconds: float
    warm_seconds: float
    rounds: int
    tunes: bool
    cache: Path
    workers: int


@dataclass(frozen=True)
class Cell:
    """One window of one server. Times in milliseconds; `others` is how many cores other work of the machine used."""

    workload: str
    server: str
    connections: int
    round: int
    load: load.Load
    cpu_seconds: float
    exact: bool
    memory_megabytes: float
    client_cpu_seconds: float
    others: float
    load_average: float


@dataclass(frozen=True)
class Bare:
    """One run of the model in plain loops: instances and processor seconds of all processes."""

    workload: str
    round: int
    processes: int
    items: int
    rate: float
    cpu_seconds: float


@dataclass
class Measured:
    """All that was seen."""

    cells: list[Cell] = field(default_factory=list)
    bare: list[Bare] = field(default_factory=list)
    tuned: list[dict[str, Any]] = field(default_factory=list)
    starts: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Turn:
    """A server as it takes part: with batches of at most `rows`, or without."""

    peer: Peer
    rows: int = 0
    window: float = 0.0
    suffix: str = ""

    @property
    def name(self) -> str:
        return self.peer.name + self.suffix


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def measure(plan: Plan) -> Measured:
    """Every workload, one after another."""
    measured = Measured()
    for workload in plan.workloads:
        folder = prepare(workload, plan.cache / "models")
        with tempfile.TemporaryDirectory(prefix="byoc-bench-") as work, contextlib.ExitStack() as close:
            Path(work).chmod(0o755)  # nginx's workers are another user
            starter = Starter(plan, workload, folder, Path(work), expected(workload, folder), measured)
            servers = []
            for turn in turns(plan, workload, starter):
                server = starter.start(turn)
                if server:
                    close.callback(starter.stop, turn, server)
                    server.freeze(True)
                    servers.append((turn, server))
            measure_rounds(plan, workload, folder, servers, measured)
    return measured


def turns(plan: Plan, workload: Workload, starter: Starter) -> list[Turn]:
    """Which servers take part, with the wait for a batch that suits each best; ours without batches as well."""
    found = []
    for peer in plan.peers:
        if workload.streams and not peer.streams:
            continue
        if not workload.accelerator or not peer.windows:
            found.append(Turn(peer))
            continue
        found.append(Turn(peer, MOST_ROWS, choose_window(plan, peer, starter)))
        if peer.name in OURS:
            found.append(Turn(peer, suffix=UNBATCHED))
    return found


def choose_window(plan: Plan, peer: Peer, starter: Starter) -> float:
    """The wait that gives the most answers at 32 connections; the first one where nothing is tried."""
    if not plan.tunes or len(peer.windows) == 1:
        return peer.windows[0]
    rates = {}
    for window in peer.windows:
        turn = Turn(peer, MOST_ROWS, window)
        server = starter.start(turn)
        if server is None:
            continue
        seen = load.throughput(server.case.port, server.path, server.body, TUNED_AT, 3)
        rates[window] = seen.requests / seen.seconds
        starter.measured.tuned.append({"server": peer.name, "window": window, "rate": rates[window], "p99": seen.p99})
        note(f"{peer.name}: window of {window * 1e3:g} ms: {rates[window]:.0f} req/s")
        starter.stop(turn, server)
    return max(rates, key=lambda window: rates[window], default=peer.windows[0])


@dataclass(frozen=True)
class Starter:
    """Starts servers for one workload, sees that they answer right, and warms them up."""

    plan: Plan
    workload: Workload
    folder: Path
    work: Path
    predictions: list[Any]
    measured: Measured

    def start(self, turn: Turn) -> Server | None:
        """A server that answers right, or None with its failure noted."""
        case = make_case(turn, self.plan, self.workload, self.folder, self.work)
        server = Server(turn.peer, case)
        try:
            ready = server.wait_until_ready()
            server.check(self.predictions)
            self.measured.starts.append({"server": turn.name, "workload": self.workload.name, "seconds": ready})
            note(f"{self.workload.name}: {turn.name} is ready after {ready:.2f} s")
            press(server, 8, 2 * self.plan.warm_seconds)
        except ServerFailed as error:
            server.close()
            self.measured.failures.append(str(error))
            note(f"FAILED {error}")
            return None
        except BaseException:
            server.close()
            raise
        return server

    def stop(self, turn: Turn, server: Server) -> None:
        server.freeze(False)
        by_itself = server.close()
        self.measured.stopped.append({"server": turn.name, "workload": self.workload.name, "by_itself": by_itself})


def make_case(turn: Turn, plan: Plan, workload: Workload, folder: Path, work: Path) -> Case:
    workers = turn.peer.device_workers if workload.accelerator else plan.workers
    port = free_port()
    own = work / f"{turn.peer.name}-{port}"
    own.mkdir()
    python = python_of(turn.peer, plan.cache)
    return Case(workload, python, folder, own, port, workers, turn.rows, turn.window)


def press(server: Server, connections: int, seconds: float) -> load.Load:
    """Load of the workload's kind."""
    press_with = load.streaming if server.case.workload.streams else load.throughput
    return press_with(server.case.port, server.path, server.body, connections, seconds)


def measure_rounds(
    plan: Plan, workload: Workload, folder: Path, servers: Sequence[tuple[Turn, Server]], measured: Measured
) -> None:
    for number in range(plan.rounds):
        for bare in measure_bare(plan, workload, folder, number):
            measured.bare.append(bare)
            note(f"{workload.name}: bare loop {bare.rate:.0f}/s, {bare.cpu_seconds / bare.items * 1e6:.0f} µs")
        for connections, seconds in windows(plan, workload, number):
            for turn, server in servers:
                if turn.suffix and connections != 1:  # what batches cost who is alone is all that they are here for
                    continue
                cell = measure_turn(plan, turn, server, connections, seconds, number)
                measured.cells.append(cell)
                note(describe(cell))


def windows(plan: Plan, workload: Workload, number: int) -> Iterator[tuple[int, float]]:
    """Connections and seconds of one round: what the goals name always, the rest in the first round."""
    for connections in workload.connections:
        if connections not in plan.connections:
            continue
        if connections in workload.goals:
            yield connections, plan.seconds
        elif number == 0:
            yield connections, plan.other_seconds


def measure_turn(plan: Plan, turn: Turn, server: Server, connections: int, seconds: float, number: int) -> Cell:
    """Let one server run, warm it, measure, and hold it again."""
    server.freeze(False)
    press(server, connections, plan.warm_seconds)
    before = clocks(server)
    seen = press(server, connections, seconds)
    used, client, busy, began = (now - then for now, then in zip(clocks(server), before, strict=True))
    cell = Cell(
        workload=server.case.workload.name,
        server=turn.name,
        connections=connections,
        round=number,
        load=seen,
        cpu_seconds=used,
        exact=server.account.exact,
        memory_megabytes=memory_megabytes(server.account.members()),
        client_cpu_seconds=client,
        others=max(0.0, busy - used - client) / began,
        load_average=os.getloadavg()[0],
    )
    server.freeze(True)
    return cell


def clocks(server: Server) -> tuple[float, float, float, float]:
    """Processor seconds of the server, of this process with its children, and of the machine; and the time."""
    mine = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    client = sum(usage.ru_utime + usage.ru_stime for usage in mine)
    machine = [int(ticks) for ticks in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]]
    busy = (sum(machine[:8]) - machine[3] - machine[4]) / os.sysconf("SC_CLK_TCK")
    return server.account.cpu_seconds(), client, busy, time.monotonic()


def describe(cell: Cell) -> str:
    seen = cell.load
    cost = cell.cpu_seconds / seen.requests * 1e6 if seen.requests else float("nan")
    return (
        f"{cell.workload}: {cell.server}, {cell.connections} connections: {seen.requests / seen.seconds:.0f} req/s, "
        f"p50 {seen.p50:.1f} ms, p99 {seen.p99:.1f} ms, {cost:.0f} µs, {cell.memory_megabytes:.0f} MB, "
        f"{seen.failed} failed, others' cores {cell.others:.2f}"
    )


def measure_bare(plan: Plan, workload: Workload, folder: Path, number: int) -> Iterator[Bare]:
    """The model alone: a loop a core with one instance at a time; for the accelerator one loop of full batches."""
    if workload.name in ("noop", "body", "stream"):
        return
    processes, instances = (1, MOST_ROWS) if workload.accelerator else (plan.workers, 1)
    command = [sys.executable, str(INSIDE / "bare.py"), workload.name, str(folder), str(plan.seconds), str(instances)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with contextlib.ExitStack() as running:
        loops = [
            running.enter_context(
                subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(processes)
        ]
        for loop in loops:
            say(loop, workload.payload().decode())
        for loop in loops:
            hear(loop)
        for loop in loops:
            say(loop, "go")
        done = [json.loads(hear(loop)) for loop in loops]
    rate = sum(one["items"] / one["seconds"] for one in done)
    items, used = sum(one["items"] for one in done), sum(one["cpu_seconds"] for one in done)
    yield Bare(workload.name, number, processes, items, rate, used)


def say(loop: subprocess.Popen[str], line: str) -> None:
    if loop.stdin is None:
        raise ValueError("the loop's standard input is not a pipe")
    loop.stdin.write(line + "\n")
    loop.stdin.flush()


def hear(loop: subprocess.Popen[str]) -> str:
    """The next line. Raises SystemExit when the loop ended without one."""
    line = loop.stdout.readline() if loop.stdout else ""
    if not line:
        raise SystemExit("the bare loop ended before it was done; its reason stands above")
    return line


def measure_memory(plan: Plan, workload: Workload, counts: Callable[[Peer], Sequence[int]]) -> list[dict[str, Any]]:
    """What servers hold with some numbers of workers, after each worker has answered."""
    found = []
    folder = prepare(workload, plan.cache / "models")
    predictions = expected(workload, folder)
    for peer in plan.peers:
        for workers in counts(peer):
            with tempfile.TemporaryDirectory(prefix="byoc-bench-") as work:
                Path(work).chmod(0o755)
                several = replace(plan, workers=workers)
                starter = Starter(several, workload, folder, Path(work), predictions, Measured())
                turn = Turn(peer)
                server = starter.start(turn)
                if server is None:
                    continue
                press(server, 4 * workers, 4)
                used = memory_megabytes(server.account.members())
                starter.stop(turn, server)
            note(f"{workload.name}: {peer.name} with {workers} workers: {used:.0f} MB")
            found.append({"server": peer.name, "workers": workers, "megabytes": used})
    return found


def as_document(measured: Measured) -> dict[str, Any]:
    """For JSON."""
    return asdict(measured)

"""The goals, each with what was measured and whether that reaches it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.serving.measure import UNBATCHED
from benchmarks.serving.peers import FASTAPI, OURS, PEERS
from benchmarks.serving.results import MISSING, Results

FLASK, ASGI = OURS
RIVALS = ("litserve", "bentoml", "mlserver", "ray")
CONNECTIONS = 32


@dataclass(frozen=True)
class Goal:
    """One line: what was wanted, what was seen, and whether that is reached (None: not measured).

    `wall` says that the figure comes from a clock, which other work of the machine spoils, rather than from an account.
    """

    wanted: str
    seen: str
    reached: bool | None
    wall: bool


def judge(results: Results) -> list[Goal]:
    """All goals, in their order."""
    parts = (overhead, model_overhead, accelerator, bare_loops, starts, memory)
    return [goal for part in parts for goal in part(results)]


def at_most(wanted: str, value: float, limit: float, seen: str, wall: bool = False) -> Goal:
    return Goal(wanted, "", None, wall) if math.isnan(value) else Goal(wanted, seen, value <= limit, wall)


def at_least(wanted: str, value: float, limit: float, seen: str) -> Goal:
    """A rate, which is always one of the clock."""
    return Goal(wanted, "", None, wall=True) if math.isnan(value) else Goal(wanted, seen, value >= limit, wall=True)


def least(costs: dict[str, float]) -> tuple[str, float]:
    """The server with the lowest figure, of those that have one."""
    known = {name: cost for name, cost in costs.items() if not math.isnan(cost)}
    name = min(known, key=lambda one: known[one], default="")
    return name, known.get(name, MISSING)


def overhead(results: Results) -> Iterator[Goal]:
    """1: processor time of a request of the no-op."""
    cost = {name: results.cost("noop", name, CONNECTIONS) for name in PEERS}
    yield from ratios("no-op", cost)


def model_overhead(results: Results) -> Iterator[Goal]:
    """1: the same with a small model, whose own time no server can save."""
    bare = results.bare_cost("cnn")
    cost = {name: results.cost("cnn", name, CONNECTIONS) - bare for name in PEERS}
    yield from ratios("CNN, less the bare model's", cost)


def ratios(what: str, cost: dict[str, float]) -> Iterator[Goal]:
    rival, best = least({name: cost[name] for name in RIVALS})
    title = PEERS[rival].title if rival else "the best model server"
    for lane, name, other, of, limit in (
        ("Flask lane", FLASK, cost[FASTAPI], "FastAPI's", 1.0),
        ("Flask lane", FLASK, best, f"the best model server's ({title})", 0.4),
        ("ASGI lane", ASGI, cost[FASTAPI], "FastAPI's", 0.4),
        ("ASGI lane", ASGI, best, f"the best model server's ({title})", 0.16),
    ):
        ratio = cost[name] / other
        wanted = f"1. {what}, {CONNECTIONS} connections: {lane}'s CPU for a request at most {limit:g} of {of}"
        yield at_most(wanted, ratio, limit, f"{cost[name]:.0f} µs of {other:.0f} µs: {ratio:.3f}")


def accelerator(results: Results) -> Iterator[Goal]:
    """2: batches on one device."""
    rate = {name: results.rate("accelerator", name, CONNECTIONS) for name in PEERS if name not in OURS}
    rival, slowest = least({name: -value for name, value in rate.items()})
    best, bound = -slowest, results.bare_rate("accelerator")
    title = PEERS[rival].title if rival else "the best peer"
    rival_late = results.latency("accelerator", rival, CONNECTIONS, "p99") if rival else MISSING
    for name in OURS:
        lane = PEERS[name].title
        ours = results.rate("accelerator", name, CONNECTIONS)
        late = results.latency("accelerator", name, CONNECTIONS, "p99")
        yield at_least(
            f"2. accelerator, {CONNECTIONS} clients, {lane}: at least 1.5 times the best peer's answers a second",
            ours / best,
            1.5,
            f"{ours:.0f} against {best:.0f} ({title}): {ours / best:.2f} times",
        )
        yield at_most(
            f"2. … {lane}: a lower p99", late / rival_late, 1.0, f"{late:.1f} ms against {rival_late:.1f} ms", wall=True
        )
        yield at_least(
            f"2. … {lane}: at least 70 % of what the lock allows",
            ours / bound,
            0.7,
            f"{ours:.0f} of {bound:.0f} a second: {ours / bound:.0%}",
        )
        alone, plain = (results.rate("accelerator", name + suffix, 1) for suffix in ("", UNBATCHED))
        yield at_least(
            f"2. … {lane}: with one client within 5 % of unbatched",
            alone / plain,
            0.95,
            f"{alone:.0f} against {plain:.0f} a second: {alone / plain - 1:+.1%}",
        )


def bare_loops(results: Results) -> Iterator[Goal]:
    """3: what serving leaves of the machine to the model."""
    bare = results.bare_rate("transformer")
    for name in OURS:
        rates = [results.rate("transformer", name, count) for count in (8, CONNECTIONS)]
        rate = max((value for value in rates if not math.isnan(value)), default=MISSING)
        wanted = f"3. transformer, {PEERS[name].title}: at least 90 % of the bare loop's answers a second"
        yield at_least(wanted, rate / bare, 0.9, f"{rate:.0f} of {bare:.0f}: {rate / bare:.0%}")
    alone = results.bare_cost("cnn")
    for name in OURS:
        cnn, noop = (results.cost(workload, name, CONNECTIONS) for workload in ("cnn", "noop"))
        wanted = f"3. CNN, {PEERS[name].title}: the bare loop's CPU and at most the no-op's"
        yield at_most(wanted, cnn - alone - noop, 0.0, f"{cnn:.0f} µs, of which bare {alone:.0f}, no-op {noop:.0f}")


def starts(results: Results) -> Iterator[Goal]:
    """4: `docker run` to the first 200."""
    for name, what in (("ready", "first 200 on /ping"), ("settled", "answers of all workers, eight requests at once")):
        took = results.starts(name)
        rival, best = least({server: value for server, value in took.items() if server not in OURS})
        for ours in OURS:
            value = took.get(ours, MISSING) - best
            wanted = f"4. `docker run` to {what}, CNN, {PEERS[ours].title}: the fastest of all"
            seen = f"{took.get(ours, MISSING):.2f} s; {PEERS[rival].title if rival else ''} {best:.2f} s"
            yield at_most(wanted, value, 0.0, seen, wall=True)


def memory(results: Results) -> Iterator[Goal]:
    """5: what four workers hold of one model."""
    for name in OURS:
        one, four = (results.held(name, workers) for workers in (1, 4))
        wanted = f"5. 400 MB model, {PEERS[name].title}: four workers hold less than 1.5 times one worker's memory"
        yield at_most(wanted, four / one, 1.5, f"{four:.0f} MB against {one:.0f} MB: {four / one:.2f} times")

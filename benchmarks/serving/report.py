"""The report and its plots, made from the raw results alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.machine import table
from benchmarks.serving.goals import CONNECTIONS, judge
from benchmarks.serving.measure import UNBATCHED
from benchmarks.serving.peers import PEERS, SAMPLE
from benchmarks.serving.plots import FOLDER, draw
from benchmarks.serving.results import Results, middle
from benchmarks.serving.workloads import WORKLOADS

# Cores of other work, and the load average before the run, above which the report says that the machine was busy.
QUIET, QUIET_LOAD = 0.1, 1.5


def write_report(results: Results, path: Path) -> str:
    """The report's text; the plots are written beside ``path``."""
    plots = draw(results, path.parent / FOLDER)
    return "\n".join(
        [
            "# Serving: servers of one model side by side",
            "",
            "Made by `python -m benchmarks.serving --write`; do not edit.",
            "",
            *machine(results),
            "",
            "## Goals",
            "",
            *goals(results),
            "",
            *(line for workload in WORKLOADS for line in section(results, workload)),
            *(line for part in (bare, tuned, starts, process_starts, memory) for line in part(results)),
            *figures(plots),
            *servers(results),
            *method(results),
        ]
    )


def title(server: str) -> str:
    plain = server.removesuffix(UNBATCHED)
    return PEERS[plain].title + server[len(plain) :]


def number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def is_busy(results: Results) -> bool:
    """Whether other work took so much of the machine that its clocks say little."""
    others = middle([cell["others"] for cell in results.document["cells"]])
    return others > QUIET or results.document["load_before"] > QUIET_LOAD


def machine(results: Results) -> Iterator[str]:
    document = results.document
    yield document["machine"]
    others = [cell["others"] for cell in document["cells"]]
    if others:
        yield (
            f"{document['rounds']} round(s) of windows of {document['seconds']:g} s. Other work of the machine used "
            f"{middle(others):.2f} cores in the middle one of {len(others)} windows, {max(others):.2f} in the worst."
        )
    if is_busy(results):
        yield ""
        yield (
            "**The machine was busy with other work.** Processor time for a request and memory hold well enough; "
            "requests a second and times on the wall do not, and are unfair to whom the other work met."
        )
    if document["failures"]:
        yield ""
        yield "What did not run:"
        yield ""
        yield from (f"- {failure.splitlines()[0]}" for failure in document["failures"])


def goals(results: Results) -> Iterator[str]:
    words = {True: "yes", False: "**no**", None: "not measured"}
    noise = ", on a busy machine" if is_busy(results) else ""
    rows = [
        [goal.wanted, goal.seen, words[goal.reached] + (noise if goal.wall and goal.reached is not None else "")]
        for goal in judge(results)
    ]
    yield table(["goal", "measured", "reached"], rows)
    reached = [goal.reached for goal in judge(results)]
    yield ""
    yield f"{reached.count(True)} of {len(rows)} lines are reached, {reached.count(False)} are not."


def section(results: Results, workload: str) -> Iterator[str]:
    """One workload's table."""
    counts = results.connections(workload)
    if not counts:
        return
    costed = CONNECTIONS if CONNECTIONS in counts else counts[-1]
    streams = WORKLOADS[workload].streams
    times = "first_p50" if streams else "p99"
    header = ["server", *(f"{'streams' if streams else 'req'}/s, {count}" for count in counts)]
    header += [f"{'first chunk' if streams else 'p99'} ms, {count}" for count in counts]
    header += [f"p50 ms, {costed}", f"CPU µs, {costed}", "MB", "failed"]
    yield f"## {WORKLOADS[workload].title[0].upper()}{WORKLOADS[workload].title[1:]}"
    yield ""
    rows = [
        [
            title(server),
            *(number(results.rate(workload, server, count)) for count in counts),
            *(number(results.latency(workload, server, count, times), 1) for count in counts),
            number(results.latency(workload, server, costed, "p50"), 1),
            number(results.cost(workload, server, costed)),
            number(results.memory(workload, server)),
            str(results.failed(workload, server)),
        ]
        for server in results.servers(workload)
    ]
    yield table(header, rows)
    yield ""


def bare(results: Results) -> Iterator[str]:
    names = list(dict.fromkeys(one["workload"] for one in results.document["bare"]))
    if not names:
        return
    yield "## The models alone"
    yield ""
    yield (
        "A plain loop of one instance after another, one process a core; for the accelerator one process with batches "
        "of 32, which is what the lock allows. The best server's part is that of the rate at any of its connections."
    )
    yield ""
    rows = []
    for name in names:
        rates = {
            server: max(
                (
                    rate
                    for count in results.connections(name)
                    if not math.isnan(rate := results.rate(name, server, count))
                ),
                default=0.0,
            )
            for server in results.servers(name)
        }
        best = max(rates, key=lambda server: rates[server], default="")
        part = f"{title(best)}: {rates[best] / results.bare_rate(name):.0%}" if best else "-"
        rows.append([name, number(results.bare_rate(name)), number(results.bare_cost(name)), part])
    yield table(["model", "instances/s", "CPU µs an instance", "the best server's part"], rows)
    yield ""


def tuned(results: Results) -> Iterator[str]:
    if not results.document["tuned"]:
        return
    yield "## How long a batch waits"
    yield ""
    yield "Tried before the rounds, 32 connections; each server took part with the wait that gave it most."
    yield ""
    rows = [
        [title(one["server"]), f"{one['window'] * 1e3:g}", number(one["rate"]), number(one["p99"], 1)]
        for one in results.document["tuned"]
    ]
    yield table(["server", "wait ms", "req/s", "p99 ms"], rows)
    yield ""


def process_starts(results: Results) -> Iterator[str]:
    """The starts that every workload began with, all packages and files in the machine's memory."""
    found = results.document["starts"]
    if not found:
        return
    yield "## From a process's start to ready"
    yield ""
    yield (
        "Seconds to the first 200, on the machine itself, median of the starts with each workload; not in turns, and "
        "the first one of a server may have read its packages from the disk."
    )
    yield ""
    works = list(dict.fromkeys(one["workload"] for one in found))
    names = [name for name in dict.fromkeys(one["server"] for one in found) if not name.endswith(UNBATCHED)]
    rows = []
    for name in names:
        mine = [one for one in found if one["server"] == name]
        took = {work: [one["seconds"] for one in mine if one["workload"] == work] for work in works}
        rows.append([title(name), *(number(middle(took[work]), 2) for work in works)])
    yield table(["server", *works], rows)
    yield ""


def starts(results: Results) -> Iterator[str]:
    found = results.document["cold"]
    if not found:
        return
    yield "## From `docker run` to ready, with the CNN"
    yield ""
    yield (
        "Seconds, median of the rounds, in one image and on the machine's network; two workers each. A server may say "
        f"that it is ready before it is: {PEERS[SAMPLE].title} loads a worker's model with that worker's first "
        "request, so its 200 speaks for one of the two. The last column is when eight requests at once, sent after "
        "the first answer, were all answered."
    )
    yield ""
    columns = [results.starts(name) for name in ("ready", "answered", "settled")]
    order = sorted(columns[0], key=lambda server: columns[0][server])
    rows = [[title(server), *(number(column[server], 2) for column in columns)] for server in order]
    yield table(["server", "first 200 when asked whether ready", "first right answer", "eight at once"], rows)
    yield ""
    yield "Where ours spends it, in milliseconds since `docker run` (median), and since the line before:"
    yield ""
    for server in dict.fromkeys(one["server"] for one in found if len(one["stages"]) > 1):
        stages = [one["stages"] for one in found if one["server"] == server]
        times: Mapping[str, float] = {
            name: middle([stage[name] for stage in stages if name in stage]) * 1e3 for name in stages[0]
        }
        rows, last = [], 0.0
        for name, when in sorted(times.items(), key=lambda item: item[1]):
            rows.append([name, number(when), number(when - last)])
            last = when
        yield table([title(server), "ms", "more"], rows)
        yield ""


def memory(results: Results) -> Iterator[str]:
    found = results.document["memory"]
    if not found:
        return
    yield "## Memory with 403 MB of weights"
    yield ""
    yield (
        "MB (10^6 bytes) of all processes after every worker has answered; a page that n processes share counts as "
        "1/n in each. The model's code is the same in all servers and maps the weights' file (`torch.load` with "
        "`mmap=True`), so every server here may share them."
    )
    yield ""
    names = list(dict.fromkeys(one["server"] for one in found))
    rows = []
    for name in names:
        one, four = results.held(name, 1), results.held(name, 4)
        rows.append([title(name), number(one), number(four), number(four / one, 2)])
    yield table(["server", "1 worker", "4 workers", "times"], rows)
    yield ""


def figures(plots: Mapping[str, str]) -> Iterator[str]:
    if plots:
        yield "## Plots"
        yield ""
    for name, caption in plots.items():
        yield f"![{caption}]({FOLDER}/{name})"
        yield ""


def servers(results: Results) -> Iterator[str]:
    yield "## The servers and their settings"
    yield ""
    yield "Every process that computes has one math thread."
    yield ""
    stopped = results.document["stopped"]
    killed = sorted({one["server"] for one in stopped if not one["by_itself"]})
    rows = [
        [PEERS[name].title, versions.replace(", ", "<br>"), PEERS[name].setting]
        for name, versions in results.document["versions"].items()
    ]
    header = "| server | versions | setting |\n| --- | --- | --- |"
    yield "\n".join([header, *(f"| {' | '.join(row)} |" for row in rows)])
    yield ""
    if killed:
        yield f"Did not end within 10 s of SIGTERM at least once: {', '.join(title(name) for name in killed)}."
        yield ""


METHOD = """\
- All servers have the same model code, one instance a request, and the same JSON body; MLServer gets the same numbers
  in its V2 protocol. Each server's answer was compared with the model's own before it was measured.
- For each workload all servers are started, and all but the one whose turn it is are frozen. Every window comes after
  a warm-up with the same connections. Connections that a goal names are measured in every round, the others in the
  first round only, with shorter windows.
- Requests a second, p50 and p99 are medians of the rounds; CPU for a request is the least of the rounds. CPU is
  @ over all processes of a server, nginx, proxies and children that ended included; the client's is not.
- The client shares the machine's cores with the server. It is wrk with one thread; for streams a client of asyncio,
  whose own cost shows at many connections.
- FastAPI and the sample have no metrics; the others count requests as they do by default. Nobody encrypts, and all
  listen on the loopback interface."""


def method(results: Results) -> Iterator[str]:
    exact = all(cell["exact"] for cell in results.document["cells"])
    yield "## How it was measured"
    yield ""
    yield METHOD.replace("@", "counted by a cgroup" if exact else "added up from /proc")

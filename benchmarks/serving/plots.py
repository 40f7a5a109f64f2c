"""The plots of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.peers import OURS, PEERS
from benchmarks.serving.results import Results

FOLDER = "serving/plots"
OUR_COLOUR, THEIR_COLOUR = "#d1495b", "#8d99ae"
CONNECTIONS = 32


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Write all plots that the results have figures for; returns file names and captions."""
    import matplotlib as mpl  # noqa: PLC0415 - measuring does without it

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "byoc", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name, (caption, plot) in PLOTS.items():
        figure = plot(results)
        if figure is not None:
            figure.savefig(folder / name, metadata={"Date": None}, bbox_inches="tight")
            drawn[name] = caption
    return drawn


def bars(axes: Any, values: dict[str, float], label: str) -> None:
    """Horizontal bars, the least at the top."""
    names = sorted(values, key=lambda name: values[name], reverse=True)
    colours = [OUR_COLOUR if name in OURS else THEIR_COLOUR for name in names]
    drawn = axes.barh([PEERS[name].title for name in names], [values[name] for name in names], color=colours)
    axes.bar_label(drawn, fmt="{:,.4g}", padding=3)
    axes.set_xlabel(label)
    axes.margins(x=0.15)


def panels(columns: Sequence[tuple[str, str, dict[str, float]]]) -> Any:
    """Bars side by side, or None where nothing was measured."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    known = [
        (heading, label, {name: value for name, value in values.items() if not math.isnan(value)})
        for heading, label, values in columns
    ]
    shown = [column for column in known if column[2]]
    if not shown:
        return None
    figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 3), layout="constrained", squeeze=False)
    for place, (heading, label, values) in zip(axes[0], shown, strict=True):
        place.set_title(heading)
        bars(place, values, label)
    plt.close(figure)
    return figure


def cost(results: Results) -> Any:
    return panels(
        [
            (heading, "µs of CPU for a request", {name: results.cost(work, name, CONNECTIONS) for name in PEERS})
            for work, heading in (("noop", "no-op"), ("cnn", "CNN"))
        ]
    )


def throughput(results: Results) -> Any:
    """Requests a second by connections."""
    import matplotlib.pyplot as plt  # noqa: PLC0415

    works = [work for work in ("noop", "cnn", "transformer", "accelerator") if results.connections(work)]
    if not works:
        return None
    figure, axes = plt.subplots(1, len(works), figsize=(4 * len(works), 3.4), layout="constrained", squeeze=False)
    for place, work in zip(axes[0], works, strict=True):
        for index, name in enumerate(PEERS):
            counts = [count for count in results.connections(work) if results.cells(work, name, count)]
            rates = [results.rate(work, name, count) for count in counts]
            style = {"linewidth": 2.2, "marker": "o"} if name in OURS else {"linewidth": 1, "marker": "."}
            place.plot(counts, rates, color=f"C{index}", label=PEERS[name].title, **style)
        if work in ("transformer", "accelerator") and not math.isnan(results.bare_rate(work)):
            place.axhline(results.bare_rate(work), color="black", linestyle=":", linewidth=1)
        place.set_xscale("log", base=2)
        place.set_xticks(results.connections(work), [str(count) for count in results.connections(work)])
        place.set_title(work)
        place.set_xlabel("connections")
        place.set_ylim(bottom=0)
    axes[0][0].set_ylabel("requests a second")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    plt.close(figure)
    return figure


def tails(results: Results) -> Any:
    return panels(
        [
            (heading, "p99 in ms, 32 connections", {n: results.latency(work, n, CONNECTIONS, "p99") for n in PEERS})
            for work, heading in (("noop", "no-op"), ("transformer", "transformer"), ("accelerator", "accelerator"))
        ]
    )


def starts(results: Results) -> Any:
    return panels(
        [
            (heading, "seconds since `docker run`", results.starts(name))
            for name, heading in (("ready", "first 200"), ("settled", "eight requests at once answered"))
        ]
    )


def memory(results: Results) -> Any:
    return panels([("403 MB of weights, 4 workers", "MB", {name: results.held(name, 4) for name in PEERS})])


PLOTS: dict[str, tuple[str, Callable[[Results], Any]]] = {
    "cpu.svg": ("Processor time for a request, 32 connections", cost),
    "throughput.svg": ("Requests a second by connections; dotted: the model alone", throughput),
    "p99.svg": ("The slowest request of a hundred", tails),
    "start.svg": ("From docker run to ready", starts),
    "memory.svg": ("Memory of four workers", memory),
}

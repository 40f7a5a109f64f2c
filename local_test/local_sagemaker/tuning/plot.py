"""The picture of a tuning job: the objective job by job, and against each hyperparameter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from local_sagemaker.tuning.definitions import Definition
from local_sagemaker.tuning.ranges import CategoricalRange, Range
from local_sagemaker.tuning.standing import objective_value

COLUMNS = 3
POINT, BEST, LINE, MUTED = "#2f6fb3", "#d1495b", "#5b6770", "#9aa5ad"
# Objectives over two decades, such as losses, are read better on a logarithmic axis.
LOGARITHMIC_RATIO = 100.0
# A logarithmic axis of less than that has few powers of ten, or none, to put its numbers at.
NARROW_RATIO = 5.0


def draw(name: str, summaries: Sequence[dict[str, Any]], definitions: tuple[Definition, ...], file: Path) -> None:
    """Draw the training jobs of a tuning job, in the order of their names, into a PNG file.

    Args:
        name: the tuning job's.
        summaries: its training jobs'; one at least has an objective.
        definitions: what was searched.
        file: where to.
    """
    ranges = {one.name: one for definition in definitions for one in definition.ranges}
    columns = 2 if len(ranges) in {2, 4} else min(len(ranges), COLUMNS)
    rows = math.ceil(len(ranges) / columns)
    figure = Figure(figsize=(11, 3.4 + 2.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.15, *([1] * rows)])
    jobs = [
        (place, one, value) for place, one in enumerate(summaries, 1) if (value := objective_value(one)) is not None
    ]
    best = (max if definitions[0].is_maximized else min)(jobs, key=lambda job: job[2])
    _draw_progress(figure.add_subplot(grid[0, :]), jobs, best, definitions[0])
    for place, (parameter, one) in enumerate(ranges.items()):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        known = [job for job in jobs if parameter in job[1]["TunedHyperParameters"]]
        _draw_parameter(axes, one, known, best)
        axes.set_ylabel(definitions[0].metric if place % columns == 0 else "")
    figure.suptitle(f"{name}: best {definitions[0].metric} {best[2]:g}, {best[1]['TrainingJobName']}", fontsize=12)
    figure.savefig(file, dpi=110)


def _draw_progress(axes: Axes, jobs: Sequence[Any], best: Any, definition: Definition) -> None:
    places, values = [job[0] for job in jobs], [job[2] for job in jobs]
    so_far = list(itertools.accumulate(values, max if definition.is_maximized else min))
    axes.step(places, so_far, where="post", color=LINE, linewidth=1.5, label="best so far")
    _draw_points(axes, places, values, jobs)
    axes.plot([best[0]], [best[2]], marker="*", markersize=15, color=BEST, linestyle="none", label="best")
    axes.set_xlabel("training job")
    axes.set_ylabel(definition.metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, values)
    axes.legend(frameon=False, fontsize=9, loc="best")


def _draw_parameter(axes: Axes, one: Range, jobs: Sequence[Any], best: Any) -> None:
    texts = [job[1]["TunedHyperParameters"][one.name] for job in jobs]
    values = [job[2] for job in jobs]
    axes.set_xlabel(one.name)
    if isinstance(one, CategoricalRange):
        places: list[float] = [one.values.index(text) for text in texts]
        axes.set_xticks(range(len(one.values)), [_shorten(value) for value in one.values])
        axes.set_xlim(-0.5, len(one.values) - 0.5)
    else:
        is_reversed = one.scaling == "ReverseLogarithmic"
        places = [1 - float(text) if is_reversed else float(text) for text in texts]
        if one.scaling != "Linear":
            axes.set_xscale("log")
        if is_reversed:
            axes.set_xlabel(f"1 - {one.name}")
            axes.invert_xaxis()
    _draw_points(axes, places, values, jobs)
    for place, job in zip(places, jobs, strict=True):
        if job is best:
            axes.plot([place], [job[2]], marker="*", markersize=15, color=BEST, linestyle="none")
    _finish(axes, values)
    if axes.get_xscale() == "log":
        _number_logarithmic(axes)


def _number_logarithmic(axes: Axes) -> None:
    """Put few enough numbers at the horizontal axis that none covers another."""
    axes.xaxis.set_minor_formatter(NullFormatter())
    low, high = sorted(axes.get_xlim())
    if high / low >= LOGARITHMIC_RATIO:
        return
    axes.xaxis.set_major_locator(MaxNLocator(4) if high / low < NARROW_RATIO else LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))


def _draw_points(axes: Axes, places: Sequence[float], values: Sequence[float], jobs: Sequence[Any]) -> None:
    """Full dots for jobs that were completed, rings for those that were stopped."""
    for status, fill, label in (("Completed", POINT, "completed"), ("Stopped", "none", "stopped early")):
        chosen = [
            place
            for place, job in enumerate(jobs)
            if (job[1]["TrainingJobStatus"] == "Completed") == (status == "Completed")
        ]
        if chosen:
            axes.scatter(
                [places[place] for place in chosen],
                [values[place] for place in chosen],
                s=34,
                facecolors=fill,
                edgecolors=POINT,
                linewidths=1.2,
                alpha=0.85,
                label=label,
                zorder=2,
            )


def _finish(axes: Axes, values: Sequence[float]) -> None:
    if values and min(values) > 0 and max(values) / min(values) >= LOGARITHMIC_RATIO:
        axes.set_yscale("log")
    axes.grid(visible=True, color=MUTED, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _shorten(text: str) -> str:
    return text if len(text) <= 12 else f"{text[:11]}…"

"""A tuning job's training jobs as a table: live on a terminal while it runs, and at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from local_sagemaker.console import plain_console
from local_sagemaker.progress import say
from local_sagemaker.state.records import Kind
from local_sagemaker.tuning.definitions import read_definitions
from local_sagemaker.tuning.results import hyperparameter_names, rank, seconds_of
from local_sagemaker.tuning.standing import objective_value, summarize, training_jobs

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace
    from local_sagemaker.tuning.definitions import Definition

REFRESHES_PER_SECOND = 2
SIGNIFICANT_DIGITS = 4
WIDEST = 10_000


class LiveTable:
    """Shows how a tuning job stands, on standard error; where that is no terminal, a line for each event.

    It is a context, which gives what lines are to be reported to.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self._name = name
        self._live: Live | None = None

    def __enter__(self) -> Callable[[str], None]:
        """Begin to show."""
        console = plain_console()
        if not console.is_terminal:
            return say
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=REFRESHES_PER_SECOND, transient=True
        )
        self._live.start()
        return lambda line: console.print(f"byoc: {line}", highlight=False)

    def __exit__(self, *_: object) -> None:
        """Clear the table."""
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        definitions = read_definitions(self._workspace.store.get(Kind.TUNING_JOB, self._name).request)
        summaries = [summarize(one, definitions) for one in training_jobs(self._workspace, self._name)]
        for summary in summaries:
            if summary["ObjectiveStatus"] == "Pending":
                points = self._workspace.store.metrics(
                    Kind.TRAINING_JOB, summary["TrainingJobName"], definitions[0].metric
                )
                summary["newest"] = points[-1].value if points else None
        return make_table(rank(summaries, definitions), definitions)


def results_table(summaries: Sequence[dict[str, Any]], definitions: tuple[Definition, ...]) -> None:
    """Print the table of a tuning job that has ended."""
    console = plain_console(sys.stdout)
    table = make_table(summaries, definitions)
    if not console.is_terminal:
        # A file has no width to be cut to.
        wide = plain_console(sys.stdout, WIDEST)
        console = plain_console(sys.stdout, wide.measure(table).maximum)
    console.print(table)


def make_table(summaries: Sequence[dict[str, Any]], definitions: tuple[Definition, ...]) -> Table:
    """One row for each training job: the objective first that was best."""
    names = hyperparameter_names(definitions)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify in (("training job", "left"), (definitions[0].metric, "right")):
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("status")
    table.add_column("seconds", justify="right")
    for place, one in enumerate(summaries):
        objective, seconds = objective_value(one), seconds_of(one)
        newest = one.get("newest")
        shown = f"{objective:.6g}" if objective is not None else f"({newest:.6g})" if newest is not None else "-"
        is_best = place == 0 and objective is not None
        tuned = one["TunedHyperParameters"]
        table.add_row(
            one["TrainingJobName"],
            shown,
            *(_short(tuned.get(name, "-")) for name in names),
            one["TrainingJobStatus"],
            "" if seconds is None else f"{seconds:.1f}",
            style="bold green" if is_best else "dim" if one["TrainingJobStatus"] == "Failed" else "",
        )
    return table


def _short(text: str) -> str:
    """A number with a few digits; anything else as it is."""
    try:
        return text if text.lstrip("+-").isdigit() else f"{float(text):.{SIGNIFICANT_DIGITS}g}"
    except ValueError:
        return text

"""What a tuning job leaves in its directory: a table of its training jobs, and a picture."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from local_sagemaker.state.records import Kind, Record
from local_sagemaker.tuning.definitions import Definition, read_definitions
from local_sagemaker.tuning.standing import objective_value, summarize, training_jobs

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

JSON_FILE = "results.json"
CSV_FILE = "results.csv"
PLOT_FILE = "objective.png"


def write_results(workspace: Workspace, record: Record, report: Callable[[str], None]) -> None:
    """Write ``results.json``, ``results.csv`` and ``objective.png``; a picture that fails is reported only."""
    directory = workspace.directory_of(Kind.TUNING_JOB, record.name)
    directory.mkdir(parents=True, exist_ok=True)
    definitions = read_definitions(record.request)
    made = [summarize(one, definitions) for one in training_jobs(workspace, record.name)]
    ranked = rank(made, definitions)
    document = {"HyperParameterTuningJobName": record.name, "TrainingJobSummaries": ranked}
    (directory / JSON_FILE).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (directory / CSV_FILE).write_text(_csv(ranked, definitions), encoding="utf-8")
    if not any(objective_value(one) is not None for one in made):
        return
    try:
        from local_sagemaker.tuning.plot import draw  # noqa: PLC0415 - matplotlib is slow to import

        draw(record.name, made, definitions, directory / PLOT_FILE)
    except Exception as error:  # noqa: BLE001 - the results are worth more than their picture
        report(f"WARNING {directory / PLOT_FILE} could not be drawn: {error}")


def rank(summaries: Sequence[dict[str, Any]], definitions: tuple[Definition, ...]) -> list[dict[str, Any]]:
    """The summaries, the best objective first; those without one last, in the order of their names."""
    sign = -1 if definitions[0].is_maximized else 1

    def key(summary: dict[str, Any]) -> tuple[float, str]:
        value = objective_value(summary)
        return (math.inf if value is None else sign * value, summary["TrainingJobName"])

    return sorted(summaries, key=key)


def hyperparameter_names(definitions: tuple[Definition, ...]) -> list[str]:
    """The names of all that is searched, each once."""
    return list(dict.fromkeys(one.name for definition in definitions for one in definition.ranges))


def seconds_of(summary: dict[str, Any]) -> float | None:
    """How long a training job ran."""
    began, ended = summary.get("TrainingStartTime"), summary.get("TrainingEndTime")
    return None if began is None or ended is None else float(ended) - float(began)


def _csv(summaries: Sequence[dict[str, Any]], definitions: tuple[Definition, ...]) -> str:
    names = hyperparameter_names(definitions)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["TrainingJobName", "TrainingJobStatus", "ObjectiveStatus", definitions[0].metric, "Seconds", *names]
    )
    for one in summaries:
        tuned, seconds, objective = one["TunedHyperParameters"], seconds_of(one), objective_value(one)
        writer.writerow(
            [
                one["TrainingJobName"],
                one["TrainingJobStatus"],
                one["ObjectiveStatus"],
                "" if objective is None else repr(objective),
                "" if seconds is None else f"{seconds:.3f}",
                *(tuned.get(name, "") for name in names),
            ]
        )
    return text.getvalue()

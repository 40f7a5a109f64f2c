"""How a tuning job stands: its training jobs as the API sums them up, counted, and the best of them.

All of it is read from the training jobs' own records, so it is true also after a runner was killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from local_sagemaker.state.records import Kind, Record
from local_sagemaker.tuning.definitions import Definition, read_definitions

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

# The reasons for which the service tries a training job again by itself.
RETRYABLE = ("InternalServerError", "CapacityError")


def training_jobs(workspace: Workspace, name: str) -> list[Record]:
    """The records of a tuning job's training jobs, the oldest first."""
    arn = workspace.arn(Kind.TUNING_JOB, name)
    found = [one for one in workspace.store.find(Kind.TRAINING_JOB) if one.description.get("TuningJobArn") == arn]
    return sorted(found, key=lambda one: one.name)


def standing(workspace: Workspace, record: Record) -> dict[str, Any]:
    """The members of a tuning job's description that follow from its training jobs."""
    definitions = read_definitions(record.request)
    summaries = [summarize(one, definitions) for one in training_jobs(workspace, record.name)]
    members = counters(summaries)
    best = best_of(summaries, definitions)
    if best is not None:
        members["BestTrainingJob"] = best
    return members


def summarize(record: Record, definitions: tuple[Definition, ...]) -> dict[str, Any]:
    """A training job as a HyperParameterTrainingJobSummary."""
    described = record.description
    definition = definition_of(record, definitions)
    hyperparameters = described.get("HyperParameters") or record.request.get("HyperParameters", {})
    summary: dict[str, Any] = {
        "TrainingJobName": record.name,
        "TrainingJobArn": described.get("TrainingJobArn"),
        "CreationTime": record.created_at,
        "TrainingStartTime": described.get("TrainingStartTime"),
        "TrainingEndTime": described.get("TrainingEndTime"),
        "TrainingJobStatus": record.status,
        "TunedHyperParameters": {
            one.name: hyperparameters[one.name] for one in definition.ranges if one.name in hyperparameters
        },
        "FailureReason": described.get("FailureReason"),
        "TrainingJobDefinitionName": definition.name or None,
        "ObjectiveStatus": "Pending",
    }
    if record.is_final:
        value = objective_of(record, definition.metric)
        summary["ObjectiveStatus"] = "Failed" if value is None else "Succeeded"
        if value is not None:
            summary["FinalHyperParameterTuningJobObjectiveMetric"] = {
                "Type": "Maximize" if definition.is_maximized else "Minimize",
                "MetricName": definition.metric,
                "Value": value,
            }
    return {key: value for key, value in summary.items() if value is not None}


def definition_of(record: Record, definitions: tuple[Definition, ...]) -> Definition:
    """The definition that a training job was made from."""
    name = record.description.get("TrainingJobDefinitionName", "")
    return next((one for one in definitions if one.name == name), definitions[0])


def objective_of(record: Record, metric: str) -> float | None:
    """The last value of the objective of a training job that has ended; None if it failed or never printed one."""
    if record.status == "Failed":
        return None
    for final in record.description.get("FinalMetricDataList") or ():
        if final["MetricName"] == metric:
            return float(final["Value"])
    return None


def objective_value(summary: dict[str, Any]) -> float | None:
    """The objective in a summary."""
    final = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
    return None if final is None else float(final["Value"])


def counters(summaries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """TrainingJobStatusCounters and ObjectiveStatusCounters."""
    summaries = list(summaries)
    statuses = Counter(map(_counted_as, summaries))
    objectives = Counter(one["ObjectiveStatus"] for one in summaries)
    jobs = ("Completed", "InProgress", "RetryableError", "NonRetryableError", "Stopped")
    return {
        "TrainingJobStatusCounters": {name: statuses[name] for name in jobs},
        "ObjectiveStatusCounters": {name: objectives[name] for name in ("Succeeded", "Pending", "Failed")},
    }


def best_of(summaries: Iterable[dict[str, Any]], definitions: tuple[Definition, ...]) -> dict[str, Any] | None:
    """The summary with the best objective, of equal ones the first; None if none has one."""
    best: dict[str, Any] | None = None
    for summary in summaries:
        value = objective_value(summary)
        known = None if best is None else objective_value(best)
        if value is not None and (known is None or definitions[0].is_better(value, known)):
            best = summary
    return best


def _counted_as(summary: dict[str, Any]) -> str:
    status = str(summary["TrainingJobStatus"])
    if status == "Failed":
        return "RetryableError" if summary.get("FailureReason", "").startswith(RETRYABLE) else "NonRetryableError"
    return {"Stopping": "InProgress"}.get(status, status)

"""A running job's record: its secondary statuses as they happen, its metrics, and whether it was told to stop.

Source: API reference, DescribeTrainingJob and SecondaryStatusTransition.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from local_sagemaker.state.records import Kind, not_before

if TYPE_CHECKING:
    from local_sagemaker.state.store import MetricPoint, Store

MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Interrupted": "Training job interrupted",
    "Stopping": "Stopping the training job",
    "Restarting": "Restarting the training job",
}


class Journal:
    """Keeps nothing: for a job without a record."""

    def enter(self, status: str, message: str = "") -> None:
        """The job is in another secondary status now."""

    def put_metrics(self, points: list[MetricPoint]) -> None:
        """The job has printed these values."""

    @property
    def must_stop(self) -> bool:
        """Whether somebody asked for the job's end."""
        return False


class RecordJournal(Journal):
    """Keeps all in the record of a training job."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._seen: tuple[int, int] | None = None
        self._must_stop = False

    def enter(self, status: str, message: str = "") -> None:
        """Close the last transition and begin another one; a job that is stopping stays in that status."""
        now = time.time()
        self._store.change(Kind.TRAINING_JOB, self._name, lambda description: begin(description, status, message, now))

    def put_metrics(self, points: list[MetricPoint]) -> None:
        """Add them to the time series; the last value of each is in the description."""
        self._store.put_metrics(Kind.TRAINING_JOB, self._name, points)
        self._store.change(Kind.TRAINING_JOB, self._name, lambda description: _keep_last(description, points))

    @property
    def must_stop(self) -> bool:
        """Whether the status has become Stopping; asks the database only after somebody wrote."""
        # Each thread has a connection of its own, and what two of them say of the version is not to be compared.
        version = threading.get_ident(), self._store.data_version()
        if version != self._seen and not self._must_stop:
            self._seen = version
            found = self._store.find(Kind.TRAINING_JOB, self._name)
            self._must_stop = not found or found[0].status == "Stopping"
        return self._must_stop


def begin(description: dict[str, Any], status: str, message: str, now: float) -> None:
    """Set a secondary status that is not the last one."""
    transitions = description.setdefault("SecondaryStatusTransitions", [])
    if transitions and transitions[-1]["Status"] == status:
        return
    now = not_before(Kind.TRAINING_JOB, description, now)
    if transitions:
        transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": status, "StartTime": now, "StatusMessage": message or MESSAGES.get(status, status)})
    description["SecondaryStatus"] = status
    if status == "Training":
        description.setdefault("TrainingStartTime", now)


def _keep_last(description: dict[str, Any], points: list[MetricPoint]) -> None:
    last = {one["MetricName"]: one for one in description.get("FinalMetricDataList", [])}
    for point in points:
        last[point.metric] = {"MetricName": point.metric, "Value": point.value, "Timestamp": point.timestamp}
    description["FinalMetricDataList"] = [last[name] for name in sorted(last)]

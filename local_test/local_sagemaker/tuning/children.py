"""The training jobs that a tuning job runs at the moment, each in a thread of the tuning job's own process.

One process has them all, so that whatever ends it leaves records whose runner is gone, the tuning job's and theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.progress import silent
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.training.operations import create_training_job
from local_sagemaker.tuning.training_request import training_job_name, training_request

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine
    from local_sagemaker.state.workspace import Workspace
    from local_sagemaker.training.local_options import LocalOptions
    from local_sagemaker.tuning.definitions import Definition
    from local_sagemaker.tuning.search import Proposal, Search


class RunsRecord(Protocol):
    """Runs a resource that has a record to its end: ``local_sagemaker.state.runner.run``."""

    def __call__(
        self,
        workspace: Workspace,
        engine: Engine,
        kind: Kind,
        name: str,
        output: BinaryIO | None = None,
        report: Callable[[str], None] = silent,
    ) -> Record:
        """Run it."""


class Child:
    """One training job that runs.

    Attributes:
        search: where its values come from.
        attempt: how often the same values have been tried, this time included.
        objective: what it has reported so far.
        is_stopping: whether the tuning job has asked for its end.
    """

    def __init__(
        self, name: str, definition: Definition, search: Search, proposal: Proposal, attempt: int, run: RunsRecord
    ) -> None:
        self.name = name
        self.definition = definition
        self.search = search
        self.proposal = proposal
        self.attempt = attempt
        self.objective: list[float] = []
        self.is_stopping = False
        self._run = run
        self._thread: threading.Thread | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its run is over and its record final."""
        return self._thread is not None and not self._thread.is_alive()

    def start(self, workspace: Workspace, engine: Engine, ended: threading.Event) -> None:
        """Run it in a thread, which sets ``ended`` at its end."""

        def run_to_the_end() -> None:
            try:
                self._run(workspace, engine, Kind.TRAINING_JOB, self.name)
            except LocalSageMakerError:
                pass  # its record tells
            finally:
                ended.set()

        self._thread = threading.Thread(target=run_to_the_end, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, workspace: Workspace) -> None:
        """Ask for its end; it gets the ordinary SIGTERM and grace."""
        if not self.is_stopping:
            self.is_stopping = True
            workspace.store.request_stop(Kind.TRAINING_JOB, self.name)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        if self._thread is not None:
            self._thread.join(timeout)

    def new_values(self, workspace: Workspace) -> list[float]:
        """What it has reported since the last time."""
        points = workspace.store.metrics(Kind.TRAINING_JOB, self.name, self.definition.metric)
        fresh = [point.value for point in points[len(self.objective) :]]
        self.objective += fresh
        return fresh


def make_training_job(
    workspace: Workspace,
    tuning_job: str,
    number: int,
    definition: Definition,
    tuned: dict[str, str],
    options: LocalOptions,
) -> str:
    """Make the record of a tuning job's n-th training job; returns its name.

    Raises:
        ValidationError, UsageError: if it cannot be made.
    """
    name = training_job_name(tuning_job, number)
    create_training_job(workspace, training_request(definition, name, tuned), options)
    belongs = {"TuningJobArn": workspace.arn(Kind.TUNING_JOB, tuning_job)}
    if definition.name:
        belongs["TrainingJobDefinitionName"] = definition.name
    workspace.store.change(Kind.TRAINING_JOB, name, lambda description: description.update(belongs))
    return name

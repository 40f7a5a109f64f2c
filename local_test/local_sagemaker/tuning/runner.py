"""The run of a tuning job: training jobs, a few at a time, until enough is known."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.state.records import Kind, Record, end, fail
from local_sagemaker.state.runner import run
from local_sagemaker.training.local_options import read_local_options
from local_sagemaker.tuning.children import Child, RunsRecord, make_training_job
from local_sagemaker.tuning.completion import has_converged, jobs_not_improving, read_completion_criteria
from local_sagemaker.tuning.definitions import Definition, number_of_jobs, read_definitions
from local_sagemaker.tuning.early_stopping import is_behind
from local_sagemaker.tuning.results import write_results
from local_sagemaker.tuning.search import Proposal, Search
from local_sagemaker.tuning.standing import RETRYABLE, objective_of, standing
from local_sagemaker.tuning.warm_start import is_identical, observations, overall_best, parent_names, transferred

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine
    from local_sagemaker.state.workspace import Workspace

KIND = Kind.TUNING_JOB
POLL_SECONDS = 0.2
# After so many training jobs without any success the service gives up.
HOPELESS_JOBS = 5
INTERNAL = "InternalServerError"


def run_tuning_job(
    workspace: Workspace,
    engine: Engine,
    record: Record,
    output: BinaryIO | None,  # noqa: ARG001 - each training job's log is in its own directory
    report: Callable[[str], None],
) -> None:
    """Run a tuning job to its end; its record and its training jobs' tell each step.

    It is stopped by setting the record's status to Stopping, or by KeyboardInterrupt in the main thread: its training
    jobs are stopped as the platform stops them. A second KeyboardInterrupt removes their containers.
    """
    TuningRun(workspace, engine, record, report).run()


class TuningRun:
    """One run.

    Args:
        workspace: where.
        engine: what runs the training jobs.
        record: the tuning job's.
        report: called with one line per event.
        run_record: what runs a training job that has a record.
    """

    def __init__(
        self,
        workspace: Workspace,
        engine: Engine,
        record: Record,
        report: Callable[[str], None],
        run_record: RunsRecord = run,
    ) -> None:
        self._workspace = workspace
        self._engine = engine
        self._record = record
        self._report = report
        self._run_record = run_record
        self._options = read_local_options(workspace.directory_of(KIND, record.name))
        config = record.request["HyperParameterTuningJobConfig"]
        self._limits = config["ResourceLimits"]
        self._stops_early = config.get("TrainingJobEarlyStoppingType", "Off") == "Auto"
        self._definitions = read_definitions(record.request)
        self._criteria = read_completion_criteria(config, is_maximized=self._definitions[0].is_maximized)
        self._most = number_of_jobs(record.request, self._definitions)
        self._searches: dict[str, Search] = {}
        self._retries: list[Child] = []
        self._children: list[Child] = []
        self._made = 0  # training jobs, attempts at the same values counted each
        self._tried = 0  # proposals
        self._ended = threading.Event()
        self._finished: list[Record] = []
        self._earlier: dict[str, list[list[float]]] = {}
        self._objectives: list[float] = []
        self._details: dict[str, Any] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        """Search until there is a reason to end, let the training jobs end, and tell the record."""
        try:
            self._searches = {one.name: self._search(one) for one in self._definitions}
            status, reason = self._attend()
            self._stop_children()
        except KeyboardInterrupt:
            self._stop_children()
            self._conclude("Stopped", "it was told to stop")
            raise
        except Exception as error:  # a training job cannot be made, or the fault is ours
            self._stop_children()
            self._conclude(
                "Failed", f"{'ClientError' if isinstance(error, LocalSageMakerError) else INTERNAL}: {error}"
            )
            raise
        self._conclude(status, reason)

    def _attend(self) -> tuple[str, str]:
        """Start and watch training jobs; returns the final status, and the reason in words."""
        while True:
            self._ended.clear()
            self._gather()
            if self._must_stop:
                return "Stopped", "it was told to stop"
            reason = self._failure()
            if reason is not None:
                return "Failed", reason
            reason = self._completion()
            if reason is not None:
                return "Completed", reason
            self._watch()
            exhausted = not self._start_more()
            if exhausted and not self._children:
                return self._verdict()
            self._ended.wait(POLL_SECONDS)

    def _search(self, definition: Definition) -> Search:
        request = self._record.request
        config = request["HyperParameterTuningJobConfig"]
        name = f"{self._record.name} {definition.name}".strip()
        search = Search(definition, config["Strategy"], self._most, name, config.get("RandomSeed"))
        self._report(f"tuning job {name}: {config['Strategy']} ({search.sampler_name})")
        if parent_names(request):
            known = observations(self._workspace, request)
            if is_identical(request):
                taken = search.learn(known)
                self._report(f"took over {taken} of {len(known)} training jobs of {', '.join(parent_names(request))}")
            else:
                wanted = search.want(transferred(known, definition))
                self._report(f"tries {wanted} of the best of {', '.join(parent_names(request))} first")
        return search

    def _start_more(self) -> bool:
        """Start training jobs up to the parallel limit; whether there may be more to start later."""
        while len(self._children) < self._limits["MaxParallelTrainingJobs"]:
            if self._retries:
                again = self._retries.pop(0)
                self._start(again.definition, again.search, again.proposal, again.attempt + 1)
                continue
            found = self._propose() if self._tried < self._most else None
            if found is None:
                return False
            self._tried += 1
            self._start(*found, attempt=1)
        return True

    def _propose(self) -> tuple[Definition, Search, Proposal] | None:
        """The next values, of the definitions in turn; None if all of them have been searched through."""
        for turn in range(len(self._definitions)):
            definition = self._definitions[(self._tried + turn) % len(self._definitions)]
            search = self._searches[definition.name]
            proposal = search.propose()
            if proposal is not None:
                return definition, search, proposal
        return None

    def _start(self, definition: Definition, search: Search, proposal: Proposal, attempt: int) -> None:
        self._made += 1
        name = make_training_job(
            self._workspace, self._record.name, self._made, definition, proposal.values, self._options
        )
        child = Child(name, definition, search, proposal, attempt, self._run_record)
        self._children.append(child)
        child.start(self._workspace, self._engine, self._ended)
        self._report(f"{name} started: {_show(proposal.values)}")
        self._keep_standing()

    def _watch(self) -> None:
        """Read what the training jobs report, and stop those that are not worth going on with."""
        for child in self._children:
            begun = len(child.objective)
            for place, value in enumerate(child.new_values(self._workspace), start=begun + 1):
                if child.is_stopping:
                    break
                wanted = child.search.report(child.proposal, place, value)
                behind = self._stops_early and is_behind(
                    child.objective[:place],
                    self._earlier.get(child.definition.name, ()),
                    is_maximized=child.definition.is_maximized,
                )
                if wanted or behind:
                    self._report(f"{child.name} is stopped early, after {place} values of {child.definition.metric}")
                    child.stop(self._workspace)

    def _gather(self) -> None:
        """Learn from the training jobs that have ended."""
        for child in [one for one in self._children if one.has_ended]:
            self._children.remove(child)
            record = self._workspace.store.get(Kind.TRAINING_JOB, child.name)
            child.new_values(self._workspace)
            if self._is_to_be_retried(child, record):
                self._report(f"{child.name} failed and is tried again: {record.description.get('FailureReason')}")
                self._retries.append(child)
                continue
            objective = objective_of(record, child.definition.metric)
            child.search.tell(child.proposal, objective)
            self._finished.append(record)
            self._earlier.setdefault(child.definition.name, []).append(child.objective)
            if objective is not None:
                self._objectives.append(objective)
            self._report(self._sum_up(record, child.definition, objective))
            self._keep_standing()

    def _is_to_be_retried(self, child: Child, record: Record) -> bool:
        retries = child.definition.document.get("RetryStrategy", {}).get("MaximumRetryAttempts", 0)
        reason = str(record.description.get("FailureReason", ""))
        return record.status == "Failed" and reason.startswith(RETRYABLE) and child.attempt <= retries

    def _sum_up(self, record: Record, definition: Definition, objective: float | None) -> str:
        jobs = len(self._finished)
        of = f" of {self._most:.0f}" if math.isfinite(self._most) else ""
        if objective is not None:
            best = (max if definition.is_maximized else min)(self._objectives)
            return f"{record.name} {record.status}: {definition.metric} {objective:g}, best {best:g} ({jobs}{of})"
        why = record.description.get("FailureReason") or f"it printed no value of {definition.metric}"
        return f"{record.name} {record.status} without an objective: {why} ({jobs}{of})"

    @property
    def _must_stop(self) -> bool:
        found = self._workspace.store.find(KIND, self._record.name)
        return not found or found[0].status == "Stopping"

    def _failure(self) -> str | None:
        """Why there is no hope, or None."""
        if self._objectives or len(self._finished) < HOPELESS_JOBS:
            return None
        statuses = Counter(one.status for one in self._finished)
        if statuses["Failed"] == len(self._finished):
            return f"No training job succeeded after {HOPELESS_JOBS} attempts. See the failures of the training jobs."
        return (
            f"No objective metrics found after running {HOPELESS_JOBS} training jobs. The algorithm must print the "
            "objective metric as its regular expression expects it."
        )

    def _completion(self) -> str | None:
        """Why to complete before all training jobs have been run, or None."""
        limit = self._limits.get("MaxRuntimeInSeconds")
        if limit is not None and time.monotonic() - self._began >= limit:
            return f"MaxRuntimeInSeconds, {limit}, are over"
        return self._criteria.reached(self._objectives)

    def _verdict(self) -> tuple[str, str]:
        if not self._objectives:
            failed = all(one.status == "Failed" for one in self._finished)
            what = "All training jobs failed." if failed else "No training job has printed its objective metric."
            return "Failed", f"{what} See the training jobs' logs."
        return "Completed", "all its training jobs have been run"

    def _stop_children(self) -> None:
        """Stop what runs and wait for it; when interrupted again, remove the containers."""
        try:
            for child in self._children:
                with suppress(LocalSageMakerError):  # the records are gone, and it ends by itself
                    child.stop(self._workspace)
            for child in self._children:
                child.join()
        except KeyboardInterrupt:
            for child in self._children:
                self._engine.remove_all(self._workspace.labels(Kind.TRAINING_JOB, child.name))
            for child in self._children:
                child.join()
            raise
        finally:
            self._gather()

    def _keep_standing(self) -> None:
        known = standing(self._workspace, self._record)
        known["ConsumedResources"] = {"RuntimeInSeconds": int(time.monotonic() - self._began)}
        directed = [value if self._definitions[0].is_maximized else -value for value in self._objectives]
        self._details["NumberOfTrainingJobsObjectiveNotImproving"] = jobs_not_improving(directed)
        if has_converged(directed):
            self._details.setdefault("ConvergenceDetectedTime", time.time())
        known["TuningJobCompletionDetails"] = self._details
        self._workspace.store.change(KIND, self._record.name, lambda description: description.update(known))

    def _conclude(self, status: str, reason: str) -> None:
        self._keep_standing()
        store, name = self._workspace.store, self._record.name
        current = store.get(KIND, name)
        overall = overall_best(self._workspace, current, current.description.get("BestTrainingJob"))
        write_results(self._workspace, current, self._report)

        def tell(description: dict[str, Any]) -> None:
            if overall is not None:
                description["OverallBestTrainingJob"] = overall
            if status == "Failed":
                fail(KIND, description, reason, time.time())
            else:
                end(KIND, description, status, time.time())

        store.change(KIND, name, tell)
        self._report(f"tuning job {name} {status}: {reason}")


def _show(values: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())

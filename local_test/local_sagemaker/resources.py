"""What can be done with a resource of any kind: find it by its name, see its containers, stop it, remove it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from local_sagemaker.api.operations import call
from local_sagemaker.archive import remove_tree
from local_sagemaker.engines import Engine, FoundContainer
from local_sagemaker.errors import LocalSageMakerError, ResourceNotFoundError, TimedOutError, UsageError
from local_sagemaker.progress import say
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.runner import runner_log
from local_sagemaker.state.workspace import KIND_LABEL, NAME_LABEL, WORKSPACE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from local_sagemaker.state.workspace import Workspace

POLL_SECONDS = 0.1
KILL_SECONDS = 10.0


class Placed(NamedTuple):
    """A container and the engine that has it."""

    engine: Engine
    container: FoundContainer


def find_resource(workspace: Workspace, name: str, kind: Kind | None = None) -> Record:
    """The resource of this name; where several kinds have it, the one of ``kind``.

    Raises:
        ResourceNotFoundError: if there is none.
        UsageError: if several kinds have the name and none is given.
    """
    found = workspace.store.find(kind, name) if workspace.database.exists() else []
    if not found:
        raise ResourceNotFoundError(
            f"Requested resource not found: {name} in {workspace.root}.", "see `byoc ps --all`, or give --project"
        )
    running = [record for record in found if record.kind.has_status]
    if len(running or found) > 1:
        kinds = ", ".join(sorted(record.kind for record in found))
        raise UsageError(f"{name} names several resources: {kinds}", "expected one", "give --kind")
    return (running or found)[0]


def containers(workspace: Workspace, among: Iterable[Engine]) -> dict[str, list[Placed]]:
    """The containers of the project by their resource's name."""
    found: dict[str, list[Placed]] = {}
    for engine in among:
        for container in engine.find({WORKSPACE_LABEL: workspace.identity, NAME_LABEL: None}):
            found.setdefault(container.labels[NAME_LABEL], []).append(Placed(engine, container))
    return found


def containers_of(workspace: Workspace, record: Record, among: Iterable[Engine]) -> list[Placed]:
    """The containers of one resource, in the order of their names."""
    labels: Mapping[str, str | None] = dict(workspace.labels(record.kind, record.name))
    placed = [Placed(engine, container) for engine in among for container in engine.find(labels)]
    return sorted(placed, key=lambda one: one.container.name)


def sweep(workspace: Workspace, among: Iterable[Engine]) -> int:
    """Remove containers and networks of resources that are over, or are no more; returns how many.

    A tool that is killed while it asks the engine for a container may get one after all, when its record was put right.
    """
    removed = 0
    for engine in among:
        carried = engine.labels_of_all({WORKSPACE_LABEL: workspace.identity, KIND_LABEL: None, NAME_LABEL: None})
        # The records are read afterwards: a resource has its record before it has containers.
        records = workspace.store.find() if carried and workspace.database.exists() else []
        known = {(one.kind, one.name): one for one in records}
        for kind, name in {(labels[KIND_LABEL], labels[NAME_LABEL]) for labels in carried}:
            if kind not in set(Kind):
                continue
            record = known.get((Kind(kind), name))
            if record is None or (record.is_final and not is_running(record)):
                removed += engine.remove_all(dict(workspace.labels(Kind(kind), name)))
    return removed


def is_running(record: Record) -> bool:
    """Whether a living process runs it."""
    return record.runner is not None and record.runner.is_alive


def ask_to_stop(workspace: Workspace, record: Record) -> None:
    """Ask for the end of a job, or of an endpoint, which is thereby deleted; fine if a job has ended.

    Raises:
        UsageError: if it is nothing that runs.
    """
    if not record.kind.has_status:
        raise UsageError(
            f"{record.name} is a {record.kind.words}, which does not run",
            "expected a job or an endpoint",
            f"remove it: `byoc rm {record.name}`",
        )
    if record.kind is Kind.ENDPOINT:
        call(workspace, "DeleteEndpoint", {"EndpointName": record.name})
    elif not record.is_final and record.status != "Stopping":
        call(workspace, f"Stop{record.kind}", {f"{record.kind}Name": record.name})


def wait_for_end(workspace: Workspace, record: Record, limit_seconds: float | None = None) -> Record | None:
    """Wait until it has ended and is no longer run; None if it was deleted meanwhile.

    Raises:
        TimedOutError: after ``limit_seconds``.
    """
    limit = None if limit_seconds is None else time.monotonic() + limit_seconds
    told = False
    while True:
        found = workspace.store.find(record.kind, record.name)
        if not found:
            return None
        if found[0].is_final and not is_running(found[0]):
            return found[0]
        if found[0].is_abandoned:
            reconcile(workspace)
            continue
        told = told or tell_halted(found[0])
        if limit is not None and time.monotonic() > limit:
            raise TimedOutError(
                f"{record.name} has not ended within {limit_seconds:g} s",
                f"its status is {found[0].status}",
                "a stop takes as long as its containers need; see `byoc logs`",
            )
        time.sleep(POLL_SECONDS)


def tell_halted(record: Record) -> bool:
    """Say what a wait is in vain for: a process that somebody suspended. Returns whether it is."""
    runner = record.runner
    if runner is None or not runner.is_halted:
        return False
    say(f"its process is suspended; it goes on with `kill -CONT {runner.pid}`, or `fg` in its terminal")
    return True


def check_removable(record: Record, force: bool = False) -> None:
    """Raise UsageError for what runs, unless ``force`` is said."""
    if is_running(record) and not force:
        raise UsageError(
            f"{record.kind.words} {record.name} is {record.status or 'in use'}",
            "what runs is not removed",
            f"stop it: `byoc stop {record.name}`, or use --force",
        )


def remove(workspace: Workspace, record: Record, among: Sequence[Engine], force: bool = False) -> None:
    """Forget a resource: its record, its containers and networks, and its directory.

    What only shows in it, a user's own folder, is not touched; neither is what it left in the buckets.

    Raises:
        UsageError: if it runs and ``force`` is not said; or if a file cannot be removed.
    """
    check_removable(record, force)
    if is_running(record):
        _kill_runner(record)
    for engine in among:
        engine.remove_all(dict(workspace.labels(record.kind, record.name)))
    # A killed runner's files may be root's: this gives them back. On a full disk it cannot be noted, and need not be.
    with suppress(LocalSageMakerError):
        reconcile(workspace, among)
    if record.kind is Kind.TRAINING_JOB:
        _remove_inputs(workspace, record.name)
    directory = workspace.directory_of(record.kind, record.name)
    try:
        remove_tree(directory)
    except OSError as error:
        raise UsageError(
            f"{error.filename or directory} cannot be removed: {error.strerror}",
            "expected files of your own",
            f"run `sudo rm -r {directory}`, then this again",
        ) from error
    runner_log(workspace, record.kind, record.name).unlink(missing_ok=True)
    workspace.store.delete(record.kind, record.name)


def _remove_inputs(workspace: Workspace, name: str) -> None:
    """The links by which a job's channels and checkpoints show the user's own folders."""
    prefix = f"s3://{workspace.default_bucket}/{name}"
    workspace.buckets.delete_prefix(f"{prefix}/input")
    workspace.buckets.delete(f"{prefix}/checkpoints")


def _kill_runner(record: Record) -> None:
    runner = record.runner
    if runner is None or runner.pid == os.getpid():
        return
    with suppress(ProcessLookupError):  # it may end by itself meanwhile
        os.kill(runner.pid, signal.SIGKILL)
    limit = time.monotonic() + KILL_SECONDS
    while runner.is_alive and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)

"""Putting right what a killed process left behind: its resources get a truthful state, its containers are removed."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from local_sagemaker.engines import answering_engines
from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.state.records import FINAL, Kind, Record, end, fail
from local_sagemaker.state.runner import runner_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from local_sagemaker.engines import Engine
    from local_sagemaker.state.store import Store
    from local_sagemaker.state.workspace import Workspace

REASON = (
    "InternalServerError: the process that ran it on this machine (number {pid}) ended without a word: "
    "it was killed, or the machine was started again"
)
# Where the disk was full, say.
REASON_SAID = (
    "InternalServerError: the process that ran it on this machine (number {pid}) could not write down how it ended; "
    "it said: {said}"
)


def reconcile(workspace: Workspace, engines: Iterable[Engine] | None = None) -> list[Record]:
    """Find resources whose process is gone, remove their containers and networks, and say how they ended.

    A job that had been told to stop is Stopped, what was being deleted is deleted, anything else that had not ended has
    Failed. In a project that may not be written all stays as it is.

    Args:
        workspace: the project.
        engines: where to look for containers; by default both, Docker where it answers.

    Returns:
        The resources that were put right, as they are now; a deleted one as it was.
    """
    if not os.access(workspace.directory, os.W_OK):  # there is none, or it is for looking only
        return []
    abandoned = [record for record in workspace.store.find() if record.is_abandoned]
    if not abandoned:
        return []
    known = list(engines) if engines is not None else answering_engines()
    # Of two processes that see this at once, one does it; and what was started again meanwhile is left alone.
    return [_put_right(workspace, record, known) for record in abandoned if workspace.store.take_over(record)]


def _put_right(workspace: Workspace, record: Record, engines: list[Engine]) -> Record:
    kind, name, store = record.kind, record.name, workspace.store
    for engine in engines:
        engine.remove_all(workspace.labels(kind, name))
        for image in _images(store, record):
            # Where none of them can, the files stay root's, and `byoc rm` says what to do.
            with suppress(LocalSageMakerError):
                engine.give_back(workspace.directory_of(kind, name), image)
                break
    if record.status == "Deleting":
        store.delete(kind, name)
        return record

    def tell(description: dict[str, Any]) -> None:
        if description.get(kind.status_key) == "Stopping" and kind.is_job:
            end(kind, description, "Stopped", time.time())
        elif kind is not Kind.ENDPOINT or description.get(kind.status_key) not in FINAL:
            pid = record.runner.pid if record.runner else 0
            said = _last_error(workspace, record)
            reason = REASON_SAID.format(pid=pid, said=said) if said else REASON.format(pid=pid)
            fail(kind, description, reason, time.time())

    store.change(kind, name, tell)
    return store.release(kind, name)


def _last_error(workspace: Workspace, record: Record) -> str | None:
    """What a detached job's process said last, if that was an error: its record could not be written then."""
    if not record.kind.is_job:  # an endpoint's earlier processes wrote into the same file
        return None
    try:
        lines = runner_log(workspace, record.kind, record.name).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    _, found, said = lines.rpartition("\nerror: ")
    return " ".join(said.split()) if found else None


def _images(store: Store, record: Record) -> Iterator[str]:
    """The images that the resource ran in: each can change the owner of what root wrote."""
    for path in (("AlgorithmSpecification", "TrainingImage"), ("AppSpecification", "ImageUri")):
        if image := record.request.get(path[0], {}).get(path[1]):
            yield str(image)
    for name in _models(store, record):
        for model in store.find(Kind.MODEL, name):
            containers = [model.request.get("PrimaryContainer", {}), *model.request.get("Containers", ())]
            yield from (str(container["Image"]) for container in containers if container.get("Image"))


def _models(store: Store, record: Record) -> Iterator[str]:
    """The names of the models that a transform job or an endpoint has."""
    if name := record.request.get("ModelName"):
        yield str(name)
    for config in store.find(Kind.ENDPOINT_CONFIG, str(record.description.get("EndpointConfigName", ""))):
        for variant in config.request.get("ProductionVariants", ()):
            yield str(variant.get("ModelName", ""))

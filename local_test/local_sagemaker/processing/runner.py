"""The run of a processing job that has a record: what ``local_sagemaker.state.runner`` calls."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from local_sagemaker.files import write_whole
from local_sagemaker.processing import job as processing
from local_sagemaker.processing.plan import plan_processing_job
from local_sagemaker.state.records import Kind, end, fail
from local_sagemaker.training.channel_data import ChannelDataError
from local_sagemaker.training.local_options import read_local_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_sagemaker.engines.base import Engine
    from local_sagemaker.processing.job import ProcessingResult
    from local_sagemaker.state.records import Record
    from local_sagemaker.state.store import Store
    from local_sagemaker.state.workspace import Workspace

KIND = Kind.PROCESSING_JOB


def run_processing_job(
    workspace: Workspace,
    engine: Engine,
    record: Record,
    output: BinaryIO | None,
    report: Callable[[str], None],
) -> None:
    """Run it to its end; the record tells how it ended.

    It is stopped by setting the record's status to Stopping, or by KeyboardInterrupt, which is raised again at the end.
    """
    store, name = workspace.store, record.name
    job = plan_processing_job(record.request, workspace, read_local_options(workspace.directory_of(KIND, name)))
    started = time.time()
    store.change(KIND, name, lambda description: description.update(ProcessingStartTime=started))
    try:
        result = processing.run_processing_job(job, engine, output, report, StopSign(store, name))
    except ChannelDataError as error:
        reason = error.happened
        store.change(KIND, name, lambda description: fail(KIND, description, reason, time.time()))
        return
    text = json.dumps(asdict(result), indent=2)
    write_whole(job.directory / "job.json", text + "\n")
    store.change(KIND, name, lambda description: tell(description, result))
    if result.interrupted:
        raise KeyboardInterrupt


class StopSign:
    """Whether a job's record says Stopping; asks the database only after somebody wrote. For one thread."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._seen: int | None = None

    def __call__(self) -> bool:
        """Look."""
        version = self._store.data_version()
        if version == self._seen:
            return False
        self._seen = version
        found = self._store.find(KIND, self._name)
        return not found or found[0].status == "Stopping"


def tell(description: dict[str, Any], result: ProcessingResult) -> None:
    """Put the end of a job into its description."""
    if result.exit_message is not None:
        description["ExitMessage"] = result.exit_message
    if result.status == "Failed":
        fail(KIND, description, result.failure_reason or "", time.time())
    else:
        end(KIND, description, result.status, time.time())

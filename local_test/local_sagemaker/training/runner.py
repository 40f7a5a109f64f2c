"""The run of a training job that has a record: what ``local_sagemaker.state.runner`` calls."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from local_sagemaker.state.records import Kind, end, fail, not_before
from local_sagemaker.training.channel_data import ChannelDataError
from local_sagemaker.training.job import run_training_job
from local_sagemaker.training.local_options import read_local_options
from local_sagemaker.training.plan import plan_from_request
from local_sagemaker.training.result import read_result
from local_sagemaker.training.transitions import RecordJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_sagemaker.engines.base import Engine
    from local_sagemaker.state.records import Record
    from local_sagemaker.state.workspace import Workspace


def run_training_job_record(
    workspace: Workspace,
    engine: Engine,
    record: Record,
    output: BinaryIO | None,
    report: Callable[[str], None],
) -> None:
    """Run it to its end; the record tells each step, and at last how it ended.

    It is stopped by setting the record's status to Stopping, or by KeyboardInterrupt in the main thread.
    """
    store, name = workspace.store, record.name
    options = read_local_options(workspace.directory_of(Kind.TRAINING_JOB, name))
    if record.status == "Stopping":
        store.change(Kind.TRAINING_JOB, name, lambda description: end(record.kind, description, "Stopped", time.time()))
        return
    job = plan_from_request(record.request, workspace, options)
    try:
        result = run_training_job(job, engine, output, report, RecordJournal(store, name))
    except ChannelDataError as error:
        reason = error.happened
        store.change(Kind.TRAINING_JOB, name, lambda description: fail(record.kind, description, reason, time.time()))
        return
    except KeyboardInterrupt:
        stopped = read_result(job.directory)
        if stopped is not None:
            store.change(Kind.TRAINING_JOB, name, lambda description: tell(description, stopped))
        raise
    store.change(Kind.TRAINING_JOB, name, lambda description: tell(description, result.document()))


def tell(description: dict[str, Any], result: dict[str, Any]) -> None:
    """Put the end of a job, as ``job.json`` has it, into its description."""
    now = not_before(Kind.TRAINING_JOB, description, time.time())
    seconds = math.ceil(result["training_seconds"])
    description["TrainingTimeInSeconds"] = description["BillableTimeInSeconds"] = seconds
    training = [one for one in description.get("SecondaryStatusTransitions", []) if one["Status"] == "Training"]
    if training:
        description["TrainingEndTime"] = now
    if "WarmPoolStatus" in description:
        description["WarmPoolStatus"] = {"Status": "Available"}
    if result["status"] == "Failed":
        fail(Kind.TRAINING_JOB, description, result["failure_reason"] or "", now)
        return
    end(Kind.TRAINING_JOB, description, result["status"], now)
    # Why it was stopped is told by the secondary status.
    description["SecondaryStatus"] = result["secondary_status"]
    description["SecondaryStatusTransitions"][-1]["Status"] = result["secondary_status"]

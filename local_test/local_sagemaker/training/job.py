"""One training job as the platform runs it, from its start to what is collected at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

from local_sagemaker.engines.base import Engine
from local_sagemaker.errors import UsageError
from local_sagemaker.logs import CommonLog
from local_sagemaker.progress import silent
from local_sagemaker.training.attempts import Run, prepare_job_directory, try_until_done
from local_sagemaker.training.local_options import AFTER_FAILURE_SECONDS, is_taken
from local_sagemaker.training.metrics import MetricLog, compile_definitions
from local_sagemaker.training.plan import (
    DEFAULT_IMAGE,
    JOB_LABEL,
    TrainingJob,
    plan_container,
    plan_containers,
    plan_network,
    plan_training_job,
)
from local_sagemaker.training.request import DEFAULT_MAX_RUNTIME_SECONDS
from local_sagemaker.training.result import TrainingResult, collect, failure_reason
from local_sagemaker.training.transitions import Journal

__all__ = [
    "AFTER_FAILURE_SECONDS",
    "DEFAULT_IMAGE",
    "DEFAULT_MAX_RUNTIME_SECONDS",
    "JOB_LABEL",
    "TrainingJob",
    "TrainingResult",
    "failure_reason",
    "plan_container",
    "plan_containers",
    "plan_network",
    "plan_training_job",
    "prepare_job_directory",
    "run_training_job",
]


def run_training_job(
    job: TrainingJob,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
    journal: Journal | None = None,
) -> TrainingResult:
    """Run a job to its end and collect its artifacts.

    On KeyboardInterrupt the job is stopped as the platform stops one, collected with status Stopped, and the
    interrupt is raised again.

    Args:
        job: the job.
        engine: what runs it.
        log_stream: where the containers' output goes, besides ``logs.txt``; lines of several hosts bear their names.
        report: called with one line per stage.
        journal: learns the secondary statuses and metrics, and says whether the job must stop.

    Raises:
        EngineMissingError, UsageError: if a container cannot be started.
        ChannelDataError: if a channel has no data.
    """
    journal = journal or Journal()
    metrics = MetricLog(compile_definitions(job.definitions), journal.put_metrics)
    _claim(job)
    with ExitStack() as stack:
        if job.warm_pool is not None:
            job = replace(job, warm_pool=stack.enter_context(job.warm_pool.taken()))
        common = None
        if not job.is_alone:
            common = stack.enter_context(CommonLog(job.log_file, log_stream, job.hosts))
        deadline = None if job.max_wait_seconds is None else time.monotonic() + job.max_wait_seconds
        run = Run(job, engine, log_stream, report, journal, metrics, common, job.image, deadline)
        attempt = try_until_done(run)
        if job.warm_pool is not None:
            job.warm_pool.touch()
    journal.enter("Uploading")
    result = collect(
        job,
        engine.name,
        attempt.ends,
        attempt.stopped,
        run.started_at,
        run.seconds,
        attempt.warnings,
        attempts=run.number + 1,
        metrics=metrics.last,
    )
    for warning in result.warnings:
        report(f"WARNING {warning}")
    if attempt.interrupt is not None:
        raise attempt.interrupt
    return result


def _claim(job: TrainingJob) -> None:
    if is_taken(job.directory):
        raise UsageError(
            f"there is a job {job.name} already: {job.directory}", "a job name is used once", "give another --job-name"
        )
    job.directory.mkdir(parents=True, exist_ok=True)

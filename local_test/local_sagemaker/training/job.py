"""One training job as the platform runs it: its hosts' containers, limits, and what is collected at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import BinaryIO

from local_sagemaker.archive import copy_code, remove_tree
from local_sagemaker.engines.base import Engine, Running
from local_sagemaker.errors import UsageError
from local_sagemaker.logs import CommonLog, LogPump, StreamSink
from local_sagemaker.progress import silent
from local_sagemaker.training.checkpoints import CheckpointSync
from local_sagemaker.training.hosts import HostEnd, HostsWatch, Patience, StopReason, started
from local_sagemaker.training.plan import (
    AFTER_FAILURE_SECONDS,
    DEFAULT_IMAGE,
    DEFAULT_MAX_RUNTIME_SECONDS,
    JOB_LABEL,
    SESSION_LABEL,
    TrainingJob,
    plan_container,
    plan_containers,
    plan_network,
    plan_training_job,
)
from local_sagemaker.training.platform_files import write_platform_files
from local_sagemaker.training.result import TrainingResult, collect, failure_reason, newest_model, timestamp

__all__ = [
    "AFTER_FAILURE_SECONDS",
    "DEFAULT_IMAGE",
    "DEFAULT_MAX_RUNTIME_SECONDS",
    "JOB_LABEL",
    "SESSION_LABEL",
    "TrainingJob",
    "TrainingResult",
    "failure_reason",
    "newest_model",
    "plan_container",
    "plan_containers",
    "plan_network",
    "plan_training_job",
    "prepare_job_directory",
    "run_training_job",
]

LOG_DRAIN_SECONDS = 10.0


def run_training_job(
    job: TrainingJob,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
) -> TrainingResult:
    """Run a job to its end and collect its artifacts.

    On KeyboardInterrupt the job is stopped as the platform stops one, collected with status Stopped, and the
    interrupt is raised again.

    Args:
        job: the job.
        engine: what runs it.
        log_stream: where the containers' output goes, besides ``logs.txt``; lines of several hosts bear their names.
        report: called with one line per stage.

    Raises:
        EngineMissingError, UsageError: if a container cannot be started.
    """
    _claim(job)
    with ExitStack() as stack:
        try:
            sync = _prepare(job, engine.network_interface)
            network = plan_network(job)
            addresses = stack.enter_context(engine.network(network)) if network is not None else None
            started_at, clock = timestamp(), time.monotonic()
            report(_introduce(job, engine.name))
            running = stack.enter_context(started(engine, plan_containers(job, addresses)))
        except BaseException:
            _discard(job, engine)  # nothing was trained, so the name stays free
            raise
        with sync.in_background() if sync else nullcontext():
            ends, stopped, interrupt = _attend(job, running, log_stream, report)
            training_seconds = time.monotonic() - clock
            engine.give_back(job.directory, job.image)
    lost = sync.warnings if sync else []
    result = collect(job, engine.name, ends, stopped, started_at, training_seconds, lost)
    for warning in result.warnings:
        report(f"WARNING {warning}")
    if interrupt is not None:
        raise interrupt
    return result


def prepare_job_directory(job: TrainingJob, network_interface: str) -> None:
    """Make each host's folders, the platform's documents, and a copy of the code as it is now."""
    interface = "lo" if job.network == "none" and job.is_alone else network_interface
    for host in job.hosts:
        directory = job.host_directory(host)
        for part in ("input/data", "model", "output/data", "checkpoints"):
            (directory / part).mkdir(parents=True)
        write_platform_files(
            directory / "input" / "config", job.hyperparameters, job.channels, interface, job.cluster, host
        )
        if job.code is not None:
            copy_code(job.code, directory / "code")


def _claim(job: TrainingJob) -> None:
    try:
        job.directory.mkdir(parents=True)
    except FileExistsError as error:
        raise UsageError(
            f"there is a job {job.name} already: {job.directory}", "a job name is used once", "give another --job-name"
        ) from error


def _prepare(job: TrainingJob, network_interface: str) -> CheckpointSync | None:
    prepare_job_directory(job, network_interface)
    if job.checkpoint_store is None:
        return None
    sync = CheckpointSync(job.checkpoint_store, job.folders("checkpoints"))
    sync.download()
    return sync


def _discard(job: TrainingJob, engine: Engine) -> None:
    try:
        remove_tree(job.directory)
    except PermissionError:  # a host that did start has written something
        engine.give_back(job.directory, job.image)
        remove_tree(job.directory)


def _introduce(job: TrainingJob, engine: str) -> str:
    hosts = "" if job.is_alone else f", {len(job.hosts)} hosts"
    return f"training job {job.name} on the {engine} engine{hosts}"


def _attend(
    job: TrainingJob, running: Mapping[str, Running], log_stream: BinaryIO | None, report: Callable[[str], None]
) -> tuple[list[HostEnd], StopReason | None, KeyboardInterrupt | None]:
    """Wait for the hosts, and stop them when the user or the limit says so."""
    stopped: StopReason | None
    interrupt: KeyboardInterrupt | None = None
    patience = Patience(job.max_runtime_seconds, job.after_failure_seconds, job.stop_grace_seconds)
    with _logging(job, running, log_stream):
        watch = HostsWatch(running, patience, report)
        try:
            stopped = watch.wait()
        except KeyboardInterrupt as error:
            report(f"stopping {job.name}; it has {job.stop_grace_seconds:.0f} s to save its work")
            watch.stop()
            stopped, interrupt = "Stopped", error
    return watch.ends, stopped, interrupt


@contextmanager
def _logging(job: TrainingJob, running: Mapping[str, Running], stream: BinaryIO | None) -> Iterator[None]:
    """Show and keep what the hosts write: one host's bytes as they are, several hosts' lines behind their names."""
    with ExitStack() as stack:
        if job.is_alone:
            pumps = [LogPump(one.logs(), job.log_file, StreamSink(stream)) for one in running.values()]
        else:
            log = stack.enter_context(CommonLog(job.log_file, stream, job.hosts))
            pumps = [
                LogPump(one.logs(), job.host_directory(host) / "logs.txt", log.sink(host))
                for host, one in running.items()
            ]
        yield
        for pump in pumps:
            pump.join(LOG_DRAIN_SECONDS)

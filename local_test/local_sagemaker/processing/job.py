"""One processing job as the platform runs it: inputs, its hosts' containers, outputs and the message."""

from __future__ import annotations

import json
import os
import threading
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from local_sagemaker.engines.base import Engine, Running
from local_sagemaker.engines.image_lookup import find_image
from local_sagemaker.engines.overlay import make_changes
from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.left_behind import read_beginning
from local_sagemaker.logs import CommonLog, LogPump, Sink, StreamSink
from local_sagemaker.processing.plan import (
    DEFAULT_MAX_RUNTIME_SECONDS,
    Output,
    ProcessingJob,
    plan_containers,
    plan_input,
    plan_network,
)
from local_sagemaker.progress import silent
from local_sagemaker.state.buckets import join_uri
from local_sagemaker.training.attempt_log import FileSink
from local_sagemaker.training.attempts import LOG_DRAIN_SECONDS, LOOK_SECONDS
from local_sagemaker.training.channel_data import Item, find_items, in_pass
from local_sagemaker.training.checkpoints import CheckpointSync
from local_sagemaker.training.downloads import gather
from local_sagemaker.training.hosts import HostEnd, HostsWatch, Order, Patience, StopReason, started_with_changes
from local_sagemaker.training.metrics import Tee

MESSAGE_BYTES = 1024
Status = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True)
class ProcessingResult:
    """How a job ended, in the platform's words."""

    status: Status
    exit_codes: Mapping[str, int]
    failure_reason: str | None = None
    exit_message: str | None = None
    seconds: float = 0.0
    interrupted: bool = False


def run_processing_job(
    job: ProcessingJob,
    engine: Engine,
    log_stream: BinaryIO | None = None,
    report: Callable[[str], None] = silent,
    must_stop: Callable[[], bool] = lambda: False,
) -> ProcessingResult:
    """Run a job to its end and bring its outputs to S3.

    On KeyboardInterrupt the job is stopped as the platform stops one, and the result says so.

    Args:
        job: the job.
        engine: what runs it.
        log_stream: where the containers' output goes, besides ``logs.txt``.
        report: called with one line per stage.
        must_stop: whether somebody asked for the job's end; asked ten times a second.

    Raises:
        EngineMissingError, UsageError: if a container cannot be started.
        ChannelDataError: if an input has no data.
    """
    image = find_image(job.image, engine.has_image)
    prepare(job, engine)
    with ExitStack() as stack:
        network = plan_network(job)
        addresses = stack.enter_context(engine.network(network)) if network is not None else None
        report(f"processing job {job.name} on the {engine.name} engine")
        plans = {host: replace(plan, image=image) for host, plan in plan_containers(job, addresses).items()}
        running = stack.enter_context(started_with_changes(engine, plans, report))
        clock = time.monotonic()
        with ExitStack() as carried:
            for sync in _continuous(job):
                carried.enter_context(sync.in_background())
            ends, stopped, interrupted = _attend(job, running, log_stream, report, must_stop)
            engine.give_back(job.directory, image, job.labels)
        seconds = time.monotonic() - clock
    return replace(_collect(job, ends, stopped, seconds), interrupted=interrupted)


def prepare(job: ProcessingJob, engine: Engine) -> None:
    """Make each host's folders, the platform's documents, and its part of the inputs."""
    for one in job.inputs:
        if one.channel.folder is not None:
            job.buckets.link(one.channel.uri.rstrip("/"), one.channel.folder)
    for host in job.hosts:
        directory = job.host_directory(host)
        for folder in (directory / "config", directory / "output", *(job.written(one, host) for one in job.outputs)):
            folder.mkdir(parents=True, exist_ok=True)
        for name, document in platform_documents(job, host, engine.network_interface).items():
            text = json.dumps(document, indent=2) + "\n"
            (directory / "config" / name).write_text(text, encoding="utf-8")
    for one in job.inputs:
        items: list[Item] | None = None  # listed once, however many hosts share them
        for host in job.hosts:
            mount = plan_input(job, host, one)
            if mount.changes is not None:
                make_changes(mount.changes)
            if job.own_folder(one, host) is None:
                items = items if items is not None else find_items(one.channel, job.buckets)
                part = in_pass(one.channel, items, job.share(one, host))
                gather(part, mount.source, may_link=engine.name != "process")


def platform_documents(job: ProcessingJob, host: str, network_interface: str) -> dict[str, object]:
    """What the platform writes below ``/opt/ml/config``."""
    group = job.cluster.group_of(host)
    return {
        "processingjobconfig.json": {
            "ProcessingJobArn": job.arn,
            "Environment": {},
            "StoppingCondition": {"MaxRuntimeInSeconds": DEFAULT_MAX_RUNTIME_SECONDS},
            **job.request,
        },
        "resourceconfig.json": {
            "current_host": host,
            "current_instance_type": group.instance_type,
            "current_group_name": group.name,
            "hosts": list(job.hosts),
            "instance_groups": [
                {"instance_group_name": group.name, "instance_type": group.instance_type, "hosts": list(group.hosts)}
            ],
            "network_interface_name": network_interface,
        },
    }


def _attend(
    job: ProcessingJob,
    running: Mapping[str, Running],
    stream: BinaryIO | None,
    report: Callable[[str], None],
    must_stop: Callable[[], bool],
) -> tuple[list[HostEnd], StopReason | None, bool]:
    interrupted = False
    patience = Patience(job.max_runtime_seconds, job.after_failure_seconds, job.stop_grace_seconds)
    with _logging(job, running, stream, report):
        watch = HostsWatch(running, patience, report)
        ended = threading.Event()

        def oversee() -> None:
            try:
                while not ended.wait(LOOK_SECONDS):
                    if must_stop():
                        watch.order(Order("Stopped"))
                        return
            except LocalSageMakerError as error:  # the records are gone
                watch.give_up(error)

        thread = threading.Thread(target=oversee, name="overseer", daemon=True)
        thread.start()
        try:
            stopped = watch.wait()
        except KeyboardInterrupt:
            report(f"stopping {job.name}; it has {job.stop_grace_seconds:.0f} s")
            watch.stop()
            stopped, interrupted = "Stopped", True
        finally:
            ended.set()
            thread.join()
    return watch.ends, stopped, interrupted


@contextmanager
def _logging(
    job: ProcessingJob, running: Mapping[str, Running], stream: BinaryIO | None, report: Callable[[str], None]
) -> Iterator[None]:
    with ExitStack() as stack:
        common = None if job.is_alone else stack.enter_context(CommonLog(job.log_file, stream, job.hosts))

        def sink(host: str) -> Sink:
            if common is None:
                return Tee(FileSink(job.log_file), StreamSink(stream))
            return Tee(FileSink(job.host_directory(host) / "logs.txt"), common.sink(host))

        pumps = {host: LogPump(one.logs(), None, sink(host)) for host, one in running.items()}
        yield
        for host, pump in pumps.items():
            pump.join(LOG_DRAIN_SECONDS)
            if pump.error is not None:
                report(f"WARNING the log of {host} is not complete: {pump.error}")


def _continuous(job: ProcessingJob) -> list[CheckpointSync]:
    return [
        CheckpointSync(
            job.buckets.path(one.uri.rstrip("/")), {host: job.written(one, host) for host in job.hosts}, deletes=False
        )
        for one in job.outputs
        if one.is_continuous
    ]


def _collect(job: ProcessingJob, ends: list[HostEnd], stopped: StopReason | None, seconds: float) -> ProcessingResult:
    codes = {end.host: end.exit_code for end in ends}
    failed = next((end for end in ends if end.failed), None)
    message, broken = read_message(job)
    status: Status = "Failed" if failed or broken else "Stopped" if stopped else "Completed"
    if status != "Failed":
        for output in job.outputs:
            upload(job, output)
    reason = f"AlgorithmError: Exit Code: {failed.exit_code}" if failed else broken
    return ProcessingResult(status, codes, reason, message or None, seconds)


def read_message(job: ProcessingJob) -> tuple[str, str | None]:
    """The exit message, of all hosts one after the other, and why it cannot be read, if so."""
    text = ""
    for host in job.hosts:
        data = read_beginning(job.host_directory(host) / "output" / "message", MESSAGE_BYTES)
        try:
            # The last character may be cut where there is more of the file.
            text += getincrementaldecoder("utf-8")().decode(data, final=len(data) < MESSAGE_BYTES)
        except UnicodeDecodeError:
            return "", "ClientError: the message in /opt/ml/output/message is not UTF-8"
    return text.encode()[:MESSAGE_BYTES].decode("utf-8", errors="ignore"), None


def upload(job: ProcessingJob, output: Output) -> None:
    """Copy what all hosts left in an output to S3; links are left out."""
    for host in job.hosts:
        folder = job.written(output, host)
        for parent, _, names in os.walk(folder):
            for path in (Path(parent, name) for name in sorted(names)):
                if path.is_file() and not path.is_symlink():
                    job.buckets.copy(join_uri(output.uri, *path.relative_to(folder).parts), path)

"""The attempts of a training job: each with fresh containers, until one is not interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.archive import make_readable, remove_tree
from local_sagemaker.code_folder import copy_code
from local_sagemaker.engines.base import BASE_DIR, Engine, Running
from local_sagemaker.engines.image_lookup import find_image
from local_sagemaker.engines.overlay import make_changes
from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.logs import CommonLog, LogPump, Sink, StreamSink
from local_sagemaker.training.attempt_log import FileSink
from local_sagemaker.training.channel_data import ChannelDataError
from local_sagemaker.training.chaos import Interruption
from local_sagemaker.training.checkpoints import CheckpointSync
from local_sagemaker.training.containers import plan_container, plan_containers, plan_network, synced_folder
from local_sagemaker.training.downloads import download_channels, show_folders
from local_sagemaker.training.hosts import HostEnd, HostsWatch, Order, Patience, StopReason, started_with_changes
from local_sagemaker.training.metrics import MetricLog, Tee
from local_sagemaker.training.pipes import PipeWriter, filled_pipes
from local_sagemaker.training.platform_files import write_platform_files
from local_sagemaker.training.result import timestamp
from local_sagemaker.training.submitted_source import bring_source
from local_sagemaker.training.training_job import TrainingJob
from local_sagemaker.training.transitions import Journal

LOG_DRAIN_SECONDS = 10.0
LOOK_SECONDS = 0.1
# What a host loses with its instance; checkpoints come back, channels are the same again.
LOST_PARTS = ("input", "model", "output", "code", "changes", "synced")


@dataclass
class Attempt:
    """How one start of the job's containers went."""

    ends: list[HostEnd] = field(default_factory=list)
    stopped: StopReason | None = None
    interrupt: KeyboardInterrupt | None = None
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)
    pipes: list[PipeWriter] = field(default_factory=list)

    @property
    def data_error(self) -> ChannelDataError | None:
        """Why a channel could not be read to its end, if so."""
        return next((pipe.error for pipe in self.pipes if pipe.error is not None), None)


@dataclass
class Run:
    """What all attempts of a job have in common."""

    job: TrainingJob
    engine: Engine
    stream: BinaryIO | None
    report: Callable[[str], None]
    journal: Journal
    metrics: MetricLog
    common: CommonLog | None
    image: str
    deadline: float | None
    started_at: str = ""
    seconds: float = 0.0
    number: int = 0

    @property
    def interruption(self) -> Interruption | None:
        """What happens to this attempt."""
        return self.job.interruptions[self.number] if self.number < len(self.job.interruptions) else None

    def sink(self, host: str) -> Sink:
        """Where a host's output goes: one host's bytes as they are, several hosts' lines behind their names."""
        if self.common is None:
            return Tee(FileSink(self.job.log_file), StreamSink(self.stream), self.metrics.sink(host))
        own = FileSink(self.job.host_directory(host) / "logs.txt")
        return Tee(own, self.common.sink(host), self.metrics.sink(host))


def prepare_job_directory(job: TrainingJob, network_interface: str, in_containers: bool = True) -> None:
    """Make each host's folders, the platform's documents, and a copy of the code as it is now.

    Args:
        job: whose folders.
        network_interface: what the documents call it.
        in_containers: whether the folders are seen below /opt/ml, not where they are.
    """
    interface = "lo" if job.network == "none" and job.is_alone else network_interface
    for host in job.hosts:
        directory = job.host_directory(host)
        for part in ("input/data", "model", "output/data", "checkpoints"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        for folder in job.synced:
            synced_folder(job, host, folder).mkdir(parents=True, exist_ok=True)
        for mount in plan_container(job, host).mounts:
            if mount.changes is not None:
                make_changes(mount.changes)
        channels = [channel for channel, _ in job.channels_of(host)]
        sent = bring_source(job, host, Path(BASE_DIR) if in_containers else directory)
        write_platform_files(directory / "input" / "config", sent, channels, interface, job.cluster, host)
        if job.code is not None:
            copy_code(job.code, directory / "code")


def try_until_done(run: Run) -> Attempt:
    """Start the containers, and again after each interruption, until they end otherwise."""
    for run.number in count():
        attempt = _attempt(run)
        run.seconds += attempt.seconds
        if attempt.stopped != "Interrupted":
            return attempt
        run.journal.enter("Interrupted")
        attempt.stopped = _await_instance(run)
        if attempt.stopped is not None:
            _lose_instances(run)
            return attempt
        run.report(f"{run.job.name} is interrupted; a fresh container starts, and only its checkpoints are left")
        run.journal.enter("Starting", "Starting the training job again after an interruption")
        _lose_instances(run)
    raise AssertionError


def _await_instance(run: Run) -> StopReason | None:
    """Wait for another spot instance; why the job ends instead, if it does."""
    interruption = run.interruption
    until = time.monotonic() + (interruption.wait_seconds if interruption else 0.0)
    pause = threading.Event()
    while True:
        if run.journal.must_stop:
            return "Stopped"
        if run.deadline is not None and time.monotonic() >= run.deadline:
            return "MaxWaitTimeExceeded"
        if time.monotonic() >= until:
            return None
        pause.wait(LOOK_SECONDS)


def _lose_instances(run: Run) -> None:
    job = run.job
    run.engine.give_back(job.directory, run.image, job.own_labels)
    keeps = job.is_alone and job.checkpoint_store is None and job.checkpoint_uri is not None
    for host in job.hosts:
        for part in (*LOST_PARTS, *(() if keeps else ("checkpoints",))):
            remove_tree(job.host_directory(host) / part)


def _attempt(run: Run) -> Attempt:
    job, engine = run.job, run.engine
    attempt = Attempt()
    with ExitStack() as stack:
        try:
            run.image = find_image(job.image, engine.has_image)
            if run.number == 0:
                run.journal.enter("Starting")
            run.journal.enter("Downloading")
            syncs = _prepare(run)
            for host in job.hosts:
                piped = [one for one in job.channels_of(host) if one[0].mode == "Pipe"]
                folder = job.host_directory(host) / "input" / "data"
                attempt.pipes += stack.enter_context(filled_pipes(piped, folder, job.buckets))
            network = plan_network(job)
            addresses = stack.enter_context(engine.network(network)) if network is not None else None
            run.started_at = run.started_at or timestamp()
            clock = time.monotonic()
            if run.number == 0:
                run.report(_introduce(job, engine.name))
            plans = {host: replace(plan, image=run.image) for host, plan in plan_containers(job, addresses).items()}
            running = stack.enter_context(started_with_changes(engine, plans, run.report))
        except BaseException:
            if run.number == 0:
                _discard(job, engine)  # nothing was trained, so the name stays free
            raise
        run.journal.enter("Training")
        with ExitStack() as carried:
            for sync in syncs:
                carried.enter_context(sync.in_background())
            _attend(run, attempt, running)
            attempt.seconds = time.monotonic() - clock
            engine.give_back(job.directory, run.image, job.own_labels)
            for folder in (*job.folders("model").values(), *job.folders("output").values()):
                make_readable(folder)
    if attempt.data_error is not None and attempt.interrupt is None:
        raise attempt.data_error
    attempt.warnings += [warning for sync in syncs for warning in sync.warnings]
    return attempt


def _prepare(run: Run) -> list[CheckpointSync]:
    job = run.job
    prepare_job_directory(job, run.engine.network_interface, in_containers=run.engine.name != "process")
    show_folders(job)
    download_channels(job, run.engine)
    if job.warm_pool is not None and job.warm_pool.open(job.hosts):
        run.report(f"{job.name} takes the warm pool {job.warm_pool.directory.name}")
    syncs = []
    if job.checkpoint_store is not None:
        sync = CheckpointSync(job.checkpoint_store, job.folders("checkpoints"))
        sync.download()
        syncs.append(sync)
    for folder in job.synced:
        places = {host: synced_folder(job, host, folder) for host in job.hosts}
        syncs.append(CheckpointSync(job.buckets.path(folder.uri), places))
    return syncs


def _discard(job: TrainingJob, engine: Engine) -> None:
    try:
        remove_tree(job.directory)
    except PermissionError:  # a host that did start has written something
        engine.give_back(job.directory, job.image, job.own_labels)
        remove_tree(job.directory)


def _introduce(job: TrainingJob, engine: str) -> str:
    hosts = "" if job.is_alone else f", {len(job.hosts)} hosts"
    return f"training job {job.name} on the {engine} engine{hosts}"


def _attend(run: Run, attempt: Attempt, running: Mapping[str, Running]) -> None:
    """Wait for the hosts, and stop them when the user, the limit or an interruption says so."""
    job = run.job
    patience = Patience(job.max_runtime_seconds - run.seconds, job.after_failure_seconds, job.stop_grace_seconds)
    with _logging(run, attempt, running):
        watch = HostsWatch(running, patience, run.report)
        try:
            with _overseen(run, attempt, watch):
                attempt.stopped = watch.wait()
        except KeyboardInterrupt as error:
            run.report(f"stopping {job.name}; it has {job.stop_grace_seconds:.0f} s to save its work")
            run.journal.enter("Stopping")
            watch.stop()
            attempt.stopped, attempt.interrupt = "Stopped", error
    attempt.ends = watch.ends


@contextmanager
def _overseen(run: Run, attempt: Attempt, watch: HostsWatch) -> Iterator[None]:
    """Give the orders that come from outside: a request to stop, an interruption, the end of all patience."""
    ended = threading.Event()
    begun = time.monotonic()

    def oversee() -> None:
        try:
            order = None
            while order is None:
                if ended.wait(LOOK_SECONDS):
                    return
                order = _order(run, attempt, time.monotonic() - begun)
            if order.reason == "Stopped":
                run.journal.enter("Stopping")
        except LocalSageMakerError as error:  # the records are gone
            watch.give_up(error)
            return
        run.report(f"{run.job.name}: {order.reason}")
        watch.order(order)

    thread = threading.Thread(target=oversee, name="overseer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _order(run: Run, attempt: Attempt, seconds: float) -> Order | None:
    if run.journal.must_stop or attempt.data_error is not None:
        return Order("Stopped")
    if run.deadline is not None and time.monotonic() >= run.deadline:
        return Order("MaxWaitTimeExceeded")
    interruption = run.interruption
    if interruption is not None and seconds >= interruption.after_seconds:
        return Order("Interrupted", interruption.kill)
    return None


@contextmanager
def _logging(run: Run, attempt: Attempt, running: Mapping[str, Running]) -> Iterator[None]:
    """Show, keep and search what the hosts write."""
    with run.metrics.flushed():
        pumps = {host: LogPump(one.logs(), None, run.sink(host)) for host, one in running.items()}
        yield
        for host, pump in pumps.items():
            pump.join(LOG_DRAIN_SECONDS)
            if pump.error is not None:
                attempt.warnings.append(f"the log of {host} is not complete: {pump.error}")

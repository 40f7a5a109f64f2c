"""The containers of one job: started one after the other, awaited together, stopped together, and always removed."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from local_sagemaker.engines.base import ContainerPlan, Engine, Mount, Running
from local_sagemaker.errors import LocalSageMakerError, UsageError
from local_sagemaker.progress import silent

StopReason = Literal["Stopped", "MaxRuntimeExceeded", "MaxWaitTimeExceeded", "Interrupted"]


@dataclass(frozen=True)
class Patience:
    """How long a job's hosts are given, in seconds.

    Attributes:
        max_runtime: until all are stopped.
        after_failure: for the others to end by themselves once one has failed.
        stop_grace: from SIGTERM to SIGKILL.
    """

    max_runtime: float
    after_failure: float
    stop_grace: float


@dataclass(frozen=True)
class HostEnd:
    """How one host's container ended, and whether that was because we stopped it."""

    host: str
    exit_code: int
    was_stopped: bool

    @property
    def failed(self) -> bool:
        """Whether it failed by itself."""
        return self.exit_code != 0 and not self.was_stopped


@dataclass(frozen=True)
class Order:
    """Somebody else wants the hosts stopped.

    Attributes:
        reason: why.
        kill: with SIGKILL, without the grace.
    """

    reason: StopReason
    kill: bool = False


@contextmanager
def started(
    engine: Engine, plans: Mapping[str, ContainerPlan], report: Callable[[str], None] = silent
) -> Iterator[dict[str, Running]]:
    """Start a container for each host; all are removed at the end, also when one of them does not start.

    How the job ended does not hang on the removal: what cannot be removed is reported.
    """

    def remove(one: Running) -> None:
        try:
            one.remove()
        except LocalSageMakerError as error:
            report(f"WARNING {error}")

    with ExitStack() as stack:
        running: dict[str, Running] = {}
        for host, plan in plans.items():
            running[host] = engine.start(plan)
            stack.callback(remove, running[host])
        yield running


@contextmanager
def started_with_changes(
    engine: Engine, plans: Mapping[str, ContainerPlan], report: Callable[[str], None]
) -> Iterator[dict[str, Running]]:
    """Start the hosts; where no changes can be laid over a channel, it is read-only."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(started(engine, plans, report))
        except UsageError as error:
            if "overlay" not in error.happened:
                raise
            report(f"channels are read-only: this machine cannot lay a job's changes over them ({error.happened})")
            read_only = {host: replace(plan, mounts=_without_changes(plan.mounts)) for host, plan in plans.items()}
            running = stack.enter_context(started(engine, read_only, report))
        yield running


def _without_changes(mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    return tuple(
        mount if mount.changes is None else Mount(mount.source, mount.target, read_only=True) for mount in mounts
    )


class HostsWatch:
    """Waits for the hosts of a job, and keeps how they ended in the order in which they did."""

    def __init__(self, running: Mapping[str, Running], patience: Patience, report: Callable[[str], None]) -> None:
        self._running = running
        self._patience = patience
        self._report = report
        self._codes: queue.SimpleQueue[tuple[str, int] | Order | LocalSageMakerError] = queue.SimpleQueue()
        self._stopping = False
        self._order: Order | None = None
        self.ends: list[HostEnd] = []
        for host in running:
            threading.Thread(target=self._await_end, args=(host,), name=f"await-{host}", daemon=True).start()

    def _await_end(self, host: str) -> None:
        try:
            self._codes.put((host, self._running[host].wait()))
        except LocalSageMakerError as error:  # the engine went away
            self._codes.put(error)

    @property
    def pending(self) -> list[str]:
        """The hosts that still run."""
        ended = {end.host for end in self.ends}
        return [host for host in self._running if host not in ended]

    @property
    def first_failure(self) -> HostEnd | None:
        """The host that failed first, if one did."""
        return next((end for end in self.ends if end.failed), None)

    def order(self, order: Order) -> None:
        """Let ``wait`` stop the hosts; for other threads."""
        self._codes.put(order)

    def give_up(self, error: LocalSageMakerError) -> None:
        """Let ``wait`` raise the error; for other threads."""
        self._codes.put(error)

    def wait(self) -> StopReason | None:
        """Return when all hosts have ended: None, or why they had to be stopped.

        After a failure the others get some time to end by themselves, for the platform waits for all of them, and are
        then stopped.
        """
        limit = time.monotonic() + self._patience.max_runtime
        while self.pending and self.first_failure is None:
            if self._order is not None:
                self.stop(kill=self._order.kill)
                return self._order.reason
            if not self._collect(limit):
                self._report(f"the limit of {self._patience.max_runtime:g} s is exceeded, the job is stopped")
                self.stop()
                return "MaxRuntimeExceeded"
        failed = self.first_failure
        if failed is not None and self.pending:
            seconds = self._patience.after_failure
            others = ", ".join(self.pending)
            self._report(
                f"{failed.host} failed with exit code {failed.exit_code}; {others}: {seconds:g} s to end as well"
            )
            limit = time.monotonic() + seconds
            while self.pending and self._order is None and self._collect(limit):
                pass
            self.stop()
        return None

    def stop(self, kill: bool = False) -> None:
        """Send SIGTERM to every host that still runs, all at once, after the grace SIGKILL; wait for their end.

        Args:
            kill: with SIGKILL at once.
        """
        while self._collect(time.monotonic()):
            pass
        self._stopping = True
        for host in self.pending:
            running = self._running[host]
            threading.Thread(target=self._end, args=(running, kill), name=f"stop-{host}", daemon=True).start()
        while self.pending:
            self._collect(None)

    def _end(self, running: Running, kill: bool) -> None:
        with suppress(LocalSageMakerError):  # whoever waits for its end is told
            if kill:
                running.kill(signal.SIGKILL)
            else:
                running.stop(self._patience.stop_grace)

    def _collect(self, limit: float | None) -> bool:
        """Note the next end or order; False if there is none until the monotonic time ``limit``.

        Raises:
            EngineMissingError: if the engine went away, so that nobody can tell how a host ended.
        """
        try:
            timeout = None if limit is None else max(0.0, limit - time.monotonic())
            event = self._codes.get(timeout=timeout)
        except queue.Empty:
            return False
        if isinstance(event, Order):
            self._order = self._order or event
            return True
        if isinstance(event, LocalSageMakerError):
            raise event
        host, code = event
        self.ends.append(HostEnd(host, code, self._stopping))
        return True

"""Keep nginx and gunicorn together: the first to end ends the container, SIGTERM drains.

Stopping: not ready any more, nginx finishes what it has and takes no more, then gunicorn ends, all within the
platform's 30 seconds.
"""

import logging
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sagemaker_byoc import processes
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving.deadlines import DRAIN_SECONDS, STOP_SECONDS
from sagemaker_byoc.serving.readiness import Readiness

POLL_SECONDS = 0.25
START_POLL_SECONDS = 0.02  # a cold start should not wait for our watch
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerPlan:
    """One server process: how it is started and which signal lets it finish its requests. Listed front door first."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    drain_signal: signal.Signals


class Supervisor:
    """Runs the servers of one container, front door first in `plans`."""

    def __init__(self, plans: Sequence[ServerPlan], readiness: Readiness, workers: int) -> None:
        self._plans = plans
        self._readiness = readiness
        self._workers = workers
        self._running: dict[int, tuple[ServerPlan, subprocess.Popen[bytes]]] = {}

    def run(self) -> int:
        """Start all, wait for a signal or the first end; returns the container's exit code."""
        with processes.blocked_signals():
            try:
                for plan in reversed(self._plans):
                    self._start(plan)
                return self._watch()
            finally:
                self._readiness.withdraw()
                self._kill_all()

    def _start(self, plan: ServerPlan) -> None:
        try:
            child = processes.start(plan.command, plan.environ)
        except OSError as error:
            raise PlatformInputError(f"{plan.name} could not be started: {plan.command[0]}: {error}") from error
        self._running[child.pid] = (plan, child)

    def _watch(self) -> int:
        was_ready = False
        started = time.monotonic()
        while True:
            age = time.monotonic() - started
            event = processes.wait(POLL_SECONDS if was_ready else min(POLL_SECONDS, START_POLL_SECONDS + age / 100))
            if isinstance(event, processes.Ended):
                plan = self._forget(event)
                if plan:
                    log.error(
                        "%s ended by itself with exit code %d; the container ends with it", plan.name, event.exit_code
                    )
                    self._stop_all(signal.SIGTERM)
                    return event.exit_code or 1
            elif event in processes.STOP_SIGNALS and event != signal.SIGHUP:
                log.info("%s received: draining for at most %d s", signal.Signals(event).name, DRAIN_SECONDS)
                self._drain()
                return 0
            elif event not in (None, signal.SIGUSR2):  # which would start a second master of gunicorn's
                self._pass_on(signal.Signals(event))
            ready = self._readiness.update(self._workers)
            if ready != was_ready:
                log.info("ready: /ping answers 200" if ready else "not ready: no worker has a model, /ping answers 503")
            was_ready = ready

    def _pass_on(self, number: signal.Signals) -> None:
        """SIGHUP reloads gunicorn's workers; the others are for gunicorn too, which is the last of the plans."""
        for pid, (plan, _) in self._running.items():
            if plan is self._plans[-1]:
                # gunicorn's master alone: its workers, in the same group, are its own business.
                processes.send_one(pid, number)

    def _drain(self) -> None:
        self._readiness.withdraw()
        started = time.monotonic()
        for plan in self._plans:
            pids = [pid for pid, (running, _) in self._running.items() if running is plan]
            for pid in pids:
                processes.send_one(pid, plan.drain_signal)
            last = plan is self._plans[-1]
            self._wait_for(pids, started + (STOP_SECONDS if last else DRAIN_SECONDS))

    def _stop_all(self, number: signal.Signals) -> None:
        self._readiness.withdraw()
        for pid in self._running:
            processes.send_one(pid, number)
        self._wait_for(list(self._running), time.monotonic() + 5)

    def _wait_for(self, pids: list[int], deadline: float) -> None:
        """Until these have ended, or the deadline."""
        while any(pid in self._running for pid in pids) and time.monotonic() < deadline:
            event = processes.wait(deadline - time.monotonic())
            if isinstance(event, processes.Ended):
                self._forget(event)

    def _forget(self, ended: processes.Ended) -> ServerPlan | None:
        plan, child = self._running.pop(ended.pid, (None, None))
        if child is not None:
            child.returncode = ended.exit_code
            # A killed master leaves its workers behind; they go with it.
            processes.send(ended.pid, signal.SIGKILL)
        return plan

    def _kill_all(self) -> None:
        for pid in self._running:
            processes.send(pid, signal.SIGKILL)
        self._wait_for(list(self._running), time.monotonic() + 2)

"""Run the user's script under supervision: signals forwarded, bytes untouched, its exit code kept."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc import processes
from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.training.report import Outcome

TAIL_BYTES = 64 * 1024
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class LaunchPlan:
    """What will be run: printable, and complete."""

    script: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    stop_grace_seconds: float
    omitted: tuple[str, ...] = ()


class StderrTail(threading.Thread):
    """Passes a child's standard error on byte for byte and remembers its last 64 KiB for the failure reason."""

    def __init__(self, source: int, sink: int) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._sink = sink
        self._tail = bytearray()

    def run(self) -> None:
        while chunk := os.read(self._source, 65536):
            self._tail += chunk
            if len(self._tail) > 2 * TAIL_BYTES:
                del self._tail[:-TAIL_BYTES]
            self._pass_on(chunk)

    def _pass_on(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._sink, view) :]
            except OSError:
                return  # nobody reads our standard error any more; the script must not stop for that

    def tail(self) -> bytes:
        """The last bytes, once the pipe is closed; a process left behind that holds it open is not waited for."""
        self.join(_CLOSE_SECONDS)
        return bytes(self._tail[-TAIL_BYTES:])


def execute(plan: LaunchPlan) -> Outcome:
    """Run to the end. SIGTERM and SIGINT go to the script's process group at once, SIGKILL after the grace time.

    Raises UserCodeError when the command cannot be started at all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with processes.blocked_signals():
        try:
            child = processes.start(plan.command, plan.environ, plan.folder, stderr=subprocess.PIPE)
        except (OSError, ValueError) as error:
            raise UserCodeError(f"{plan.command[0]} could not be started in {plan.folder}: {error}") from error
        if child.stderr is None:
            raise AssertionError("a pipe was asked for")
        tail = StderrTail(child.stderr.fileno(), sys.stderr.fileno())
        tail.start()
        exit_code, stopped = _supervise(child.pid, plan.stop_grace_seconds)
        child.returncode = exit_code
        # What the script left running ends with it, as everything does when a container ends.
        processes.send(child.pid, signal.SIGKILL)
        return Outcome(exit_code, tail.tail(), stopped)


def _supervise(pid: int, grace: float) -> tuple[int, bool]:
    """Wait for the script, passing signals on. Returns its exit code and whether it was asked to stop."""
    deadline: float | None = None
    while True:
        event = processes.wait(None if deadline is None else deadline - time.monotonic())
        if isinstance(event, processes.Ended):
            if event.pid == pid:
                return event.exit_code, deadline is not None
        elif event is None:
            processes.send(pid, signal.SIGKILL)
            deadline = time.monotonic() + grace
        else:
            processes.send(pid, event)
            if event in processes.STOP_SIGNALS and event != signal.SIGHUP and deadline is None:
                deadline = time.monotonic() + grace

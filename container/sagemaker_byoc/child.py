"""One child from start to end: signals forwarded, bytes untouched, its exit code kept."""

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc import processes
from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.stderr_tail import StderrTail


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its exit code (128 + n for signal n), the tail of its standard error, and whether the platform
    had asked it to stop.
    """

    exit_code: int
    stderr_tail: bytes
    stopped: bool = False


def run(command: tuple[str, ...], environ: Mapping[str, str], folder: Path, grace_seconds: float) -> Outcome:
    """Run to the end. SIGTERM and SIGINT go to the child's process group at once, SIGKILL after the grace time.

    To be called inside `processes.blocked_signals`. Raises UserCodeError when the command cannot be started at all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child, tail = start_with_tail(command, environ, folder)
    exit_code, stopped_at = supervise(child.pid, lambda: grace_seconds)
    child.returncode = exit_code
    # What it left running ends with it, as everything does when a container ends.
    processes.send(child.pid, signal.SIGKILL)
    return Outcome(exit_code, tail.tail(), stopped=stopped_at is not None)


def start_with_tail(
    command: tuple[str, ...], environ: Mapping[str, str], folder: Path
) -> tuple["subprocess.Popen[bytes]", StderrTail]:
    """Start a command whose standard error is passed on and remembered. Raises UserCodeError."""
    try:
        child = processes.start(command, environ, folder, stderr=subprocess.PIPE)
    except (OSError, ValueError) as error:
        raise UserCodeError(f"{command[0]} could not be started in {folder}: {_why_not(command, error)}") from error
    if child.stderr is None:
        raise AssertionError("a pipe was asked for")
    tail = StderrTail(child.stderr.fileno(), sys.stderr.fileno())
    tail.start()
    return child, tail


def _why_not(command: tuple[str, ...], error: OSError | ValueError) -> str:
    """What the system's short words mean here."""
    if isinstance(error, FileNotFoundError) and Path(command[0]).exists():
        return (
            f"{error}. The file is there, so its first line names no program: one that this image lacks, or one with a "
            "carriage return behind it (line ends of Windows)."
        )
    if isinstance(error, OSError) and error.errno == errno.E2BIG:
        longest = max(range(len(command)), key=lambda index: len(command[index]))
        name = command[longest - 1]
        return f"{error}. The value of {name} has {len(command[longest])} characters; pass it in a channel instead."
    return str(error)


def supervise(pid: int, grace_seconds: Callable[[], float]) -> tuple[int, float | None]:
    """Wait for a child, passing signals on.

    Returns its exit code, and when it was first asked to stop, in seconds since the epoch; None if it never was.
    """
    deadline: float | None = None
    stopped_at: float | None = None
    while True:
        event = processes.wait(None if deadline is None else deadline - time.monotonic())
        if isinstance(event, processes.Ended):
            if event.pid == pid:
                return event.exit_code, stopped_at
        elif event is None:
            processes.send(pid, signal.SIGKILL)
            deadline = time.monotonic() + grace_seconds()
        else:
            processes.send(pid, event)
            if is_stop(event) and deadline is None:
                deadline = time.monotonic() + grace_seconds()
                stopped_at = time.time()


def is_stop(event: signal.Signals) -> bool:
    """Whether a signal asks the job to end; SIGHUP is the script's to interpret."""
    return event in processes.STOP_SIGNALS and event != signal.SIGHUP

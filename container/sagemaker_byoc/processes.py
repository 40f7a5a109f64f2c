"""Process 1's duties: start children, wait for their ends and for signals, reap orphans, end process groups.

Signals are blocked and taken one at a time by `wait`, so nothing is lost between two checks and no handler runs in
the middle of other work.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
PASSED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
_WAITED = frozenset({signal.SIGCHLD, *STOP_SIGNALS, *PASSED_SIGNALS})


@dataclass(frozen=True)
class Ended:
    """A child that ended: its process id and its exit code, 128 + n when signal n ended it."""

    pid: int
    exit_code: int


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Hold back the signals that `wait` takes, for the time of the block."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent may have left it ignored, and children would vanish
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    try:
        yield
    finally:
        # All is over: a stop that came meanwhile must not end this process with another exit code than the one it has.
        while signal.sigtimedwait(STOP_SIGNALS, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(
    command: Sequence[str],
    environ: Mapping[str, str],
    directory: Path | None = None,
    stderr: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    ends_with_parent: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a command as the leader of its own process group, with no signal blocked. Raises OSError.

    `ends_with_parent` has the kernel kill the child when this process ends in any way.
    """
    prepare = _unblock_signals
    if ends_with_parent:
        import ctypes  # noqa: PLC0415 - only ranks need it

        prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec nothing may be loaded

        def prepare() -> None:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            _unblock_signals()

    return subprocess.Popen(
        list(command),
        env=dict(environ),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        process_group=0,
        preexec_fn=prepare,  # noqa: PLW1509 - it only makes system calls, which is safe beside threads
    )


def wait(seconds: float | None = None) -> signal.Signals | Ended | None:
    """The next ended child or signal, or None when `seconds` are over; any orphan that process 1 inherits is reaped.

    To be called inside `blocked_signals`.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        ended = _reap()
        if ended is not None:
            return ended
        if deadline is None:
            taken = signal.sigwaitinfo(_WAITED)
        else:
            left = signal.sigtimedwait(_WAITED, max(0.0, deadline - time.monotonic()))
            if left is None or left.si_signo == 0:  # the system call was interrupted: a container was paused, say
                return _reap()
            taken = left
        if taken.si_signo != signal.SIGCHLD:
            return signal.Signals(taken.si_signo)


def send(pid: int, number: signal.Signals) -> None:
    """Signal a child's whole process group; a group that is gone is no error."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def send_one(pid: int, number: signal.Signals) -> None:
    """Signal a child alone; one that is gone is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap() -> Ended | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    if pid == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return Ended(pid, 128 - code if code < 0 else code)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())

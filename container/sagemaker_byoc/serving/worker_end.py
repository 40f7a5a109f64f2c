"""The end of a worker that has answered its last request: what the user's code has started ends with it.

At its end Python waits for processes of `multiprocessing` and for the threads of executors, without a limit; a stop
would take as long as the platform allows, for work that nobody wants any more.
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

CHILD_SECONDS = 2.0  # between SIGTERM and SIGKILL
THREAD_SECONDS = 5.0  # what threads of the user's get, before functions of atexit have their turn
_POLL_SECONDS = 0.02
# It ignores SIGTERM, cleans up after this process, and ends by itself.
_RESOURCE_TRACKER = b"resource_tracker"
_OWN_THREADS = ("MainThread", "end", "watch", "model-load")
log = logging.getLogger(__name__)


def end() -> None:
    """To be called in the worker. What is left of its children is killed; its threads get some time from now on."""
    threads_are_done = threading.Event()
    atexit.register(threads_are_done.set)  # Python waits for threads before this
    threading.Thread(target=_limit_threads, args=(threads_are_done,), name="end", daemon=True).start()
    children = [pid for child in _children(os.getpid()) for pid in _family(child)]
    _signal(children, signal.SIGTERM)
    deadline = time.monotonic() + CHILD_SECONDS
    while _running(children) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    _signal(_running(children), signal.SIGKILL)


def _limit_threads(done: threading.Event) -> None:
    if done.wait(THREAD_SECONDS):
        return
    left = [thread.name for thread in threading.enumerate() if thread.name not in _OWN_THREADS]
    log.warning("this worker ends although threads of the model's code go on: %s", ", ".join(left))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _children(pid: int) -> list[int]:
    """A process's children, without those that `multiprocessing` ends by itself, gently to its pools."""
    found = [child for child, parent in _parents() if parent == pid]
    known = sys.modules.get("multiprocessing.process")
    own = {child.pid for child in known.active_children() if child.daemon} if known and pid == os.getpid() else set()
    return [child for child in found if child not in own and _RESOURCE_TRACKER not in _command(child)]


def _family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _parents() -> Iterator[tuple[int, int]]:
    """Each process and its parent; none where there is no /proc."""
    for folder in Path("/proc").glob("[0-9]*"):
        state, parent = _stat(int(folder.name))
        if state not in ("", "Z"):
            yield int(folder.name), parent


def _stat(pid: int) -> tuple[str, int]:
    """State and parent; an empty state for a process that is gone."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return state, int(parent)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _running(pids: list[int]) -> list[int]:
    """Those that have not ended; their parent may not have asked for their exit codes."""
    return [pid for pid in pids if _stat(pid)[0] not in ("", "Z")]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue

"""Handlers that the user's code sets for signals while it is loaded: passed over, and told in the log.

A worker's signals are how it is stopped, reloaded and replaced, so no library may take them over by being imported. As
a model is loaded in a thread, Python would refuse the handler with an error that ended the loading for nothing.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Whoever sets these also starts a timer. Without the handler its end would end the worker: better Python's own error.
TIMERS = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF)
log = logging.getLogger(__name__)
_loading = threading.local()


@contextmanager
def passed_over() -> Iterator[None]:
    """While this thread, in this process, runs what the user wrote for the time of loading."""
    _loading.pid = os.getpid()
    try:
        yield
    finally:
        _loading.pid = 0


def guard() -> None:
    """To be called once in a worker, before anything of the user's is imported."""
    set_handler = signal.signal

    def set_unless_loading(number: int, handler: Any) -> Any:
        if getattr(_loading, "pid", 0) != os.getpid() or number in TIMERS:
            return set_handler(number, handler)
        before = signal.getsignal(number)  # a ValueError for a number that is none, as always
        caller = sys._getframe(1)  # noqa: SLF001 - the line that set it
        log.info(
            "%s, line %d sets a handler for %s, which is passed over: a worker's signals are the server's own. "
            "What is to happen at its end can be given to atexit.",
            Path(caller.f_code.co_filename).name,
            caller.f_lineno,
            signal.Signals(number).name,
        )
        return before

    signal.signal = set_unless_loading  # type: ignore[assignment]  # typeshed has names for its arguments

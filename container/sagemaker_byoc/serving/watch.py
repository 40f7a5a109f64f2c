"""Seeing a worker whose threads are all stuck: its callers were told 504 long ago, and nobody else can be answered."""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time

LOOK_SECONDS = 1.0
GRACE_SECONDS = 2.0  # past the deadline, for a function that is about to return
log = logging.getLogger(__name__)


class Watch:
    """The requests that are in the model now, each with the moment after which nobody waits for it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._deadlines: dict[object, float] = {}

    def begin(self, deadline: float) -> object:
        """A request enters the model."""
        token = object()
        self._deadlines[token] = deadline
        return token

    def end(self, token: object) -> None:
        """It has left."""
        self._deadlines.pop(token, None)

    def is_stuck(self, now: float) -> bool:
        """Whether every thread that may run the model is past its deadline."""
        overdue = [deadline for deadline in list(self._deadlines.values()) if deadline + GRACE_SECONDS < now]
        return len(overdue) >= self._threads

    def start(self) -> None:
        """Look on from a thread of its own, and end this worker when it is stuck; the master starts another."""
        threading.Thread(target=self._look, name="watch", daemon=True).start()

    def _look(self) -> None:
        while not self.is_stuck(time.monotonic()):
            time.sleep(LOOK_SECONDS)
        log.error(
            "all %d threads of this worker are in a function that has not returned in time; it is started anew. "
            "Where each of them is:",
            self._threads,
        )
        faulthandler.dump_traceback(sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)

"""Seeing a worker whose threads are all stuck: its callers were told 504 long ago, and nobody else can be answered."""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time

LOOK_SECONDS = 1.0
# For a function that is about to return. Looks, no seconds: where the container was paused, its clock was not.
GRACE_LOOKS = 2
log = logging.getLogger(__name__)


class Watch:
    """The requests that are in the model now, each with the moment after which nobody waits for it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._deadlines: dict[object, float] = {}
        self._overdue = 0

    def begin(self, deadline: float) -> object:
        """A request enters the model."""
        token = object()
        self._deadlines[token] = deadline
        return token

    def end(self, token: object) -> None:
        """It has left."""
        self._deadlines.pop(token, None)

    def is_stuck(self, now: float) -> bool:
        """Look once: whether every thread that may run the model is past its deadline, at this look and at those before
        it that are its grace.
        """
        overdue = [deadline for deadline in list(self._deadlines.values()) if deadline < now]
        self._overdue = self._overdue + 1 if len(overdue) >= self._threads else 0
        return self._overdue > GRACE_LOOKS

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

"""The gate before the model: so many requests at once, so many more that wait in turn, and the rest turned away."""

import threading
import time
from collections import deque

from sagemaker_byoc.errors import ClientGone, DeadlineExceeded, Overloaded
from sagemaker_byoc.serving.exchange import Request


class Gate:
    """At most `active` requests in the model at once and `waiting` before it, first come first served."""

    def __init__(self, active: int, waiting: int) -> None:
        self._lock = threading.Lock()
        self._free = active
        self._waiting = waiting
        self._tickets: deque[threading.Lock] = deque()

    def enter(self, deadline: float) -> bool:
        """Take a place, or wait for one; returns whether it waited.

        Raises Overloaded at once, or DeadlineExceeded when nobody waits for the answer any more.
        """
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return False
            if len(self._tickets) >= self._waiting:
                raise Overloaded("every thread is busy and the queue of waiting requests is full; try again later")
            ticket = threading.Lock()
            ticket.acquire()
            self._tickets.append(ticket)
        if not ticket.acquire(timeout=max(0.0, deadline - time.monotonic())):
            self._give_up(ticket)
        return True

    def leave(self) -> None:
        """Give the place to the one that has waited longest."""
        with self._lock:
            if self._tickets:
                self._tickets.popleft().release()
            else:
                self._free += 1

    def _give_up(self, ticket: threading.Lock) -> None:
        with self._lock:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                raise DeadlineExceeded("the request waited for a free thread until its time was over")
        # The place came in the very last moment: it is taken, and what follows sees that the time is over.


def check_wanted(request: Request) -> None:
    """Before the model works for nothing. Raises DeadlineExceeded, or ClientGone for a caller that has gone."""
    if time.monotonic() > request.deadline:
        raise DeadlineExceeded("the request waited for a free thread until its time was over")
    if request.is_wanted is not None and not request.is_wanted():
        raise ClientGone("the caller has gone")

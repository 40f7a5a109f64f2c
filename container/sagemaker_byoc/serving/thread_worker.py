"""gunicorn's worker with threads, where a thread stays with its connection.

nginx keeps its connections open and sends the next request on the one that has just been answered. gunicorn hands
such a connection from the thread to the main loop and back, which costs more than a small model. Here there is a
thread for every connection that nginx may open, and it waits for the next request itself.
"""

import select
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

# How soon an idle thread sees that the worker is to stop.
LOOK_MILLISECONDS = 500


class StayingThreadWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A thread serves one connection after the other, and each until it is idle while others wait for a thread."""

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if keep is not True:
            return keep
        readable = select.poll()
        readable.register(conn.sock, select.POLLIN)
        while keep is True and self._next_comes(readable):
            keep = super().handle(conn)
        return keep

    def _next_comes(self, readable: select.poll) -> bool:
        """Whether another request, or the connection's end, has come while this thread was of no use elsewhere."""
        while self.alive:
            if readable.poll(LOOK_MILLISECONDS):
                return True
            if self.nr_conns >= self.cfg.threads:
                return False
        return False

"""gunicorn's worker with threads, where a thread stays with its connection.

nginx keeps its connections open and sends the next request on the one that has just been answered. gunicorn hands
such a connection from the thread to the main loop and back, which costs more than a small model. Here there is a
thread for every connection that nginx may open, and it waits for the next request itself.
"""

import contextlib
import select
import socket
import time
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from sagemaker_byoc.serving.long_bodies import STALL_SECONDS

# How soon an idle thread sees that the worker is to stop.
LOOK_MILLISECONDS = 500
HEAD_SECONDS = 7.0  # for a request up to its body; without nginx, callers who never end theirs would take every thread
JOINED_BYTES = 64 << 10  # a longer piece is not copied for it


class _Pieces(list[bytes]):
    """What is written to it, to be sent later."""

    def sendall(self, piece: bytes) -> None:
        self.append(piece)


class WholeResponse(wsgi.Response):  # type: ignore[misc]  # gunicorn has no types
    """An answer that does not say who made it, and whose head leaves together with the first piece of its body.

    A worker that were killed between the two would leave its caller with half an answer, where nginx gives none
    with 502.
    """

    sock: Any
    headers_sent: bool

    def default_headers(self) -> list[str]:
        return [line for line in super().default_headers() if not line.startswith("Server:")]

    def write(self, arg: bytes) -> None:
        if self.headers_sent or len(arg) > JOINED_BYTES:
            super().write(arg)
            return
        connection, self.sock = self.sock, _Pieces()
        try:
            super().write(arg)
        finally:
            pieces, self.sock = self.sock, connection
            connection.sendall(b"".join(pieces))


class StayingThreadWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """A thread serves one connection after the other, and each until it is idle while others wait for a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads: dict[Any, float] = {}  # connections whose next request has not come to its body, since when
        wsgi.Response = WholeResponse

    def handle(self, conn: Any) -> Any:
        keep = self._handle_one(conn)
        if keep is not True:
            return keep
        readable = select.poll()
        readable.register(conn.sock, select.POLLIN)
        # What came together with the last request lies in the buffer, and makes nothing readable.
        while keep is True and (conn.parser.unreader.buf.getvalue() or self._next_comes(readable)):
            keep = self._handle_one(conn)
        return keep

    def handle_request(self, req: Any, conn: Any) -> Any:
        self._heads.pop(conn, None)
        if isinstance(conn.client, tuple):  # not nginx, which has a limit of its own
            conn.sock.settimeout(STALL_SECONDS)
        return super().handle_request(req, conn)

    def murder_pending(self) -> None:
        """Gunicorn's main loop calls this each second."""
        super().murder_pending()
        now = time.monotonic()
        for conn, since in list(self._heads.items()):
            if now - since > HEAD_SECONDS:
                with contextlib.suppress(OSError):
                    conn.sock.shutdown(socket.SHUT_RD)  # its thread sees the end of the request

    def _handle_one(self, conn: Any) -> Any:
        self._heads[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._heads.pop(conn, None)

    def _next_comes(self, readable: select.poll) -> bool:
        """Whether another request, or the connection's end, has come while this thread was of no use elsewhere."""
        while self.alive:
            if readable.poll(LOOK_MILLISECONDS):
                return True
            if self.nr_conns >= self.cfg.threads:
                return False
        return False

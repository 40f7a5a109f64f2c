"""One connection to a container, kept open, over which mini-batches go one after the other.

httptools parses the answers: a job may send many thousand small requests, and a general client's own work for each of
them is a multiple of what the container does. Measured with records that travel alone, see benchmarks/transform.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httptools

from local_sagemaker.transform.splitting import Body

COPIED_BYTES = 65536  # where one system call costs more than joining head and body


class Answer(NamedTuple):
    """A container's answer to one request."""

    status: int
    content_type: str
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300


class NoAnswerError(Exception):
    """There was no whole answer; the text says why."""


class StaleError(Exception):
    """The other side has closed the connection before it answered anything."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 on one socket, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._take: Callable[[bytes], object] | None = None
        self._content_type = ""
        self._has_length = False
        self._headers_done = False
        self._answering = False
        self._sending = False
        self._seconds = self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_closed = False

    async def ask(
        self, head: bytes, body: Body, seconds: float, take: Callable[[bytes], object] | None = None
    ) -> Answer:
        """Send a request and wait for its answer, ``seconds`` at most.

        Raises:
            StaleError: if the other side closes the connection without a byte.
            NoAnswerError: if it closes it within its answer, answers something else than HTTP, or not in time.
        """
        loop = asyncio.get_running_loop()
        self._seconds, self._deadline = seconds, loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_at(self._deadline, self._look_at_the_clock)
        waiting: asyncio.Future[Answer] = loop.create_future()
        self._waiting = waiting
        self._pieces = []
        self._take = take
        self._answering = self._headers_done = self._has_length = False
        self._content_type = ""
        if isinstance(body, bytes):
            head += b"Content-Length: %d\r\n\r\n" % len(body)
            if len(body) < COPIED_BYTES:
                self._transport.write(head + body)
            else:
                self._transport.write(head)
                self._transport.write(body)
        else:
            try:
                await self._send_pieces(head, body())
            except BaseException:
                waiting.cancel()  # nobody awaits it any more
                raise
        return await waiting

    async def _send_pieces(self, head: bytes, pieces: Iterator[bytes]) -> None:
        self._sending = True
        self._transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
        while self._waiting is not None and not self._waiting.done():
            piece = await asyncio.to_thread(next, pieces, b"")
            if self._may_write is not None:
                await self._may_write
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            if not piece:
                self._sending = False
                return

    def close(self) -> None:
        """Close the socket; an answer that is awaited does not come."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of create_connection
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(NoAnswerError(f"the container answered something else than HTTP: {error}"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if self._waiting is None or self._waiting.done():
            return
        if self._headers_done and not self._has_length and exc is None:
            self.on_message_complete()  # without a length the answer's end is the connection's
        elif self._answering:
            self._fail(NoAnswerError("the container closed the connection within its answer"))
        else:
            self._fail(StaleError())

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._may_write = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)
        self._may_write = None

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        lower = name.lower()
        if lower == b"content-type":
            self._content_type = value.decode("latin-1")
        elif lower in {b"content-length", b"transfer-encoding"}:
            self._has_length = True

    def on_headers_complete(self) -> None:
        """All headers."""
        self._headers_done = True
        if not 200 <= self._parser.get_status_code() < 300:
            self._take = None  # what is wrong is told, not written

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._take is not None:
            self._take(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The whole answer."""
        if self._waiting is None or self._waiting.done():
            return
        status = self._parser.get_status_code()
        # An answer before the whole request was sent is the last one that can be told apart.
        if not self._parser.should_keep_alive() or self._sending or self._transport.get_write_buffer_size():
            self.is_closed = True
            self._transport.close()
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._waiting.set_result(Answer(status, self._content_type, body))

    def _look_at_the_clock(self) -> None:
        """One timer serves all requests of a connection: each moves the deadline, which is looked at when it fires."""
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline:
            self._timer = loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self._fail(NoAnswerError(f"the container did not answer within {self._seconds:g} s"))
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

"""One connection to a container, kept open, over which mini-batches go one after the other.

httptools parses the answers: a job may send many thousand small requests, and a general client's own work for each of
them is a multiple of what the container does. Measured with records that travel alone, see benchmarks/transform.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import httptools

from local_sagemaker.transform.splitting import Body

COPIED_BYTES = 65536  # where one system call costs more than joining head and body


class Answer(NamedTuple):
    """A container's answer to one request, its body in the pieces in which it came."""

    status: int
    pieces: list[bytes]

    @property
    def size(self) -> int:
        """Of the body in bytes."""
        return sum(map(len, self.pieces))

    @property
    def body(self) -> bytes:
        """The whole body; of a large one a copy."""
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return 200 <= self.status < 300


class Following(NamedTuple):
    """The body of a request that follows an answer, and what is to be done once it is on its way."""

    body: bytes
    meanwhile: Callable[[], object]


Take = Callable[[bytes], object]
Follow = Callable[[Answer], Following | None]


class NoAnswerError(Exception):
    """There was no whole answer; the text says why."""


class StaleError(Exception):
    """The other side has closed the connection before it answered anything."""


class Connection(asyncio.Protocol):
    """HTTP/1.1 on one socket, one request at a time.

    Args:
        head: what every request begins with.
        seconds: that an answer may take.

    Attributes:
        has_answered: whether there was an answer so far.
    """

    def __init__(self, head: bytes, seconds: float) -> None:
        self._head = head
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._follow: Follow | None = None
        self._may_write: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._take: Take | None = None
        self._has_length = False
        self._headers_done = False
        self._answering = False
        self._is_whole = self._keeps_alive = False
        self._status = 0
        self._sending = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.has_answered = False
        self.is_closed = False

    async def ask(self, body: Body, take: Take | None = None, follow: Follow | None = None) -> Answer:
        """Send a request and wait for its answer.

        Args:
            body: the request's.
            take: gets a good answer's body piece by piece, if it is not to be kept in memory.
            follow: gets a good answer as soon as it is there and may give the next request, which is then sent without
                a turn of the event loop. Where it gives None, the answer is returned.

        Raises:
            StaleError: if the other side closes the connection without a byte.
            NoAnswerError: if it closes it within its answer, answers something else than HTTP, or not in time.
        """
        waiting: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting, self._follow = waiting, follow
        self._begin(take)
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        if callable(body):
            try:
                await self._send_pieces(body())
            except BaseException:
                waiting.cancel()  # nobody awaits it any more
                raise
        else:
            self._send(body)
        return await waiting

    def _begin(self, take: Take | None = None) -> None:
        self._deadline = self._loop.time() + self._seconds
        self._pieces = []
        self._take = take
        self._answering = self._headers_done = self._has_length = self._keeps_alive = False

    def _send(self, body: bytes) -> None:
        head = b"%bContent-Length: %d\r\n\r\n" % (self._head, len(body))
        if len(body) < COPIED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def _send_pieces(self, pieces: Iterator[bytes]) -> None:
        self._sending = True
        self._transport.write(self._head + b"Transfer-Encoding: chunked\r\n\r\n")
        while self._waiting is not None and not self._waiting.done():
            piece = await asyncio.to_thread(next, pieces, b"")
            await self.sent()
            self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
            if not piece:
                self._sending = False
                return

    async def sent(self) -> None:
        """Wait until the system has what was sent so far, or next to all of it, or the connection is closed."""
        if self._may_write is not None:
            await asyncio.shield(self._may_write)

    def close(self) -> None:
        """Close the socket; an answer that is awaited does not come."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=COPIED_BYTES, low=0)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._answering = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(NoAnswerError(f"the container answered something else than HTTP: {error}"))
            self.close()
            return
        if self._is_whole:
            self._is_whole = False
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if self._waiting is None or self._waiting.done():
            return
        if self._headers_done and not self._has_length and exc is None:
            self._answered()  # without a length the answer's end is the connection's
        elif self._answering:
            self._fail(NoAnswerError("the container closed the connection within its answer"))
        else:
            self._fail(StaleError())

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._may_write = self._loop.create_future()

    def resume_writing(self) -> None:
        """The socket's buffer has room."""
        if self._may_write is not None and not self._may_write.done():
            self._may_write.set_result(None)
        self._may_write = None

    # What httptools calls.

    def on_header(self, name: bytes, _value: bytes) -> None:
        """One header."""
        if name.lower() in {b"content-length", b"transfer-encoding"}:
            self._has_length = True

    def on_headers_complete(self) -> None:
        """All headers."""
        self._headers_done = True
        self._status = self._parser.get_status_code()
        if not 200 <= self._status < 300:
            self._take = None  # what is wrong is told, not written

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._take is not None:
            self._take(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The whole answer. It is looked at when the parser has returned, which makes all errors its own."""
        self._is_whole = True
        self._keeps_alive = self._parser.should_keep_alive()

    def _answered(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            return
        self.has_answered = True
        # An answer before the whole request was sent is the last one that can be told apart.
        if not self._keeps_alive or self._sending or self._transport.get_write_buffer_size():
            self.is_closed = True
            self._transport.close()
        answer = Answer(self._status, self._pieces)
        if self._follow is not None and answer.ok and not self.is_closed:
            try:
                following = self._follow(answer)
                if following is not None:
                    self._begin()
                    self._send(following.body)
                    following.meanwhile()
                    return
            except Exception as error:  # noqa: BLE001 - a fault of ours, which is raised where the answer is awaited
                self._fail(error)
                return
        waiting.set_result(answer)

    def _look_at_the_clock(self) -> None:
        """One timer serves all requests of a connection: each moves the deadline, which is looked at when it fires."""
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self._fail(NoAnswerError(f"the container did not answer within {self._seconds:g} s"))
            self.close()

    def _fail(self, error: Exception) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

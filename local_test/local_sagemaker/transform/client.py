"""One connection to a container, kept open, over which mini-batches go one after the other.

httptools parses the answers: a job may send many thousand small requests, and a general client's own work for each of
them is a multiple of what the container does. Measured with records that travel alone, see benchmarks/transform.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import httptools

from local_sagemaker.transform.splitting import Body

COPIED_BYTES = 65536  # where one system call costs more than joining head and body
TOLD_BYTES = 200  # of an answer that says what is wrong
RETRIED = frozenset({408, 429, *range(500, 600)})


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


class InvocationFailed(Exception):
    """A request did not succeed, however often it was sent.

    Attributes:
        is_clients: whether the container blames the request.
    """

    def __init__(self, what: str, is_clients: bool) -> None:
        self.is_clients = is_clients
        super().__init__(what)


@dataclass(frozen=True)
class Caller:
    """How a container is asked.

    Attributes:
        address: host and port.
        headers: of every request, Content-Type and Accept among them.
        timeout_seconds: for one attempt.
        retries: further attempts after a failed one.
        pause_seconds: before the second attempt; twice as long before each further one.
        has_ended: asked after a failed attempt, says how the container ended, else None.
    """

    address: tuple[str, int]
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float = 600.0
    retries: int = 3
    pause_seconds: float = 0.5
    has_ended: Callable[[], str | None] = field(default=lambda: None)

    def head(self) -> bytes:
        """What every request begins with."""
        host, port = self.address
        lines = ["POST /invocations HTTP/1.1", f"Host: {host}:{port}", *(f"{k}: {v}" for k, v in self.headers)]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


class Wire:
    """A connection that is made again when it was lost; for one request at a time."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._head = caller.head()
        self._connection: Connection | None = None

    async def ask(
        self, body: Body, take: Callable[[bytes], object] | None = None, anew: Callable[[], object] | None = None
    ) -> Answer:
        """Send a mini-batch until it succeeds or the retries are used up.

        Args:
            body: the mini-batch.
            take: gets a good answer's body piece by piece, if it is not to be kept in memory.
            anew: called before each attempt: the pieces so far are void.

        Raises:
            InvocationFailed: if it does not succeed.
        """
        caller = self._caller
        for attempt in range(caller.retries + 1):
            if attempt:
                await asyncio.sleep(caller.pause_seconds * 2 ** (attempt - 1))
            if anew is not None:
                anew()
            try:
                answer = await self._attempt(body, take)
            except NoAnswerError as error:
                ended = await asyncio.to_thread(caller.has_ended)
                if ended:
                    raise InvocationFailed(ended, is_clients=False) from None
                said = str(error)
                continue
            if answer.ok:
                return answer
            said = f"the container answered with status {answer.status}{_told(answer)}"
            if answer.status not in RETRIED:
                raise InvocationFailed(said, is_clients=True)
        times = "once" if caller.retries == 0 else f"{caller.retries + 1} times"
        raise InvocationFailed(f"{said} (it was asked {times})", is_clients=False)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _attempt(self, body: Body, take: Callable[[bytes], object] | None) -> Answer:
        try:
            while True:
                connection, is_used = self._connection, True
                if connection is None or connection.is_closed:
                    connection, is_used = await self._connect(), False
                with suppress(StaleError):
                    return await connection.ask(self._head, body, self._caller.timeout_seconds, take)
                if not is_used:
                    raise NoAnswerError("the container closed the connection without an answer")  # noqa: TRY301
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> Connection:
        loop, seconds = asyncio.get_running_loop(), self._caller.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(Connection, *self._caller.address)
        except TimeoutError:
            raise NoAnswerError(f"the container took no connection within {seconds:g} s") from None
        except OSError as error:
            raise NoAnswerError(f"the container cannot be reached: {error.strerror or error}") from error
        self._connection = connection
        return connection


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
            await self._send_pieces(head, body())
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


def _told(answer: Answer) -> str:
    text = " ".join(answer.body[: TOLD_BYTES * 4].decode(errors="replace").split())
    return f": {text[:TOLD_BYTES]}" if text else ""

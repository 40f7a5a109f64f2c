"""Connections to a container that are kept open and used again, one request at a time on each."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from typing import Protocol, cast

import httptools

from local_sagemaker.hosting.routing import Container

ANSWER_FIELDS = {
    b"content-type": "content_type",
    b"x-amzn-sagemaker-custom-attributes": "custom_attributes",
    b"x-amzn-sagemaker-new-session-id": "new_session",
    b"x-amzn-sagemaker-session-id": "session",
    b"x-amzn-sagemaker-closed-session-id": "closed_session",
    b"content-length": "length",
    b"transfer-encoding": "coding",
}
SETTLE_SECONDS = 0.02

Fields = dict[str, bytes]


class Asker(Protocol):
    """Who asks a container: told of a connection, and then of the answer, at once or in parts."""

    over: bool

    def connected(self, connection: ContainerConnection) -> None:
        """A connection is there; ``ask`` it, or give it back to its pool."""

    def unreachable(self, reason: str) -> None:
        """There is no connection."""

    def answered(self, status: int, fields: Fields, body: bytes) -> None:
        """The whole answer, if it was not asked for in parts."""

    def head(self, status: int, fields: Fields) -> None:
        """An answer in parts begins."""

    def part(self, chunk: bytes) -> None:
        """A part of it."""

    def done(self) -> None:
        """It has ended."""

    def too_large(self) -> None:
        """The answer is larger than what may be held."""

    def broken(self, reason: str, unread: bool) -> None:
        """The connection ended before the answer did; ``unread``: the container never read the request in full."""


class ContainerConnection(asyncio.Protocol):
    """One connection. Its pool lends it to one asker at a time."""

    __slots__ = (
        "_asker", "_body", "_complete", "_eof", "_fields", "_held", "_in_parts", "_interim", "_most", "_parser",
        "_paused", "_source", "_status", "_stays", "_transport", "pool",
    )  # fmt: skip

    def __init__(self, pool: ContainerPool) -> None:
        self.pool = pool
        self._asker: Asker | None = None
        self._source: Iterator[bytes] | None = None
        self._eof = False
        self._paused = False
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._clear()

    def _clear(self) -> None:
        self._fields: Fields | None = None
        self._status = 0  # until the head is whole
        self._body: list[bytes] = []
        self._held = 0
        self._complete = False
        self._interim = False
        self._stays = False

    def ask(self, asker: Asker, head: bytes, body: bytes | Iterator[bytes], most: int, *, in_parts: bool) -> None:
        """Send a request.

        Args:
            asker: is told of the answer.
            head: request line and headers.
            body: the whole, or its pieces, taken as the container reads them.
            most: bytes of an answer that is held to be given at once; 0 is no limit.
            in_parts: give the answer as it comes.
        """
        self._asker = asker
        self._in_parts = in_parts
        self._most = most
        if not isinstance(body, bytes):
            self._source = body
            self._transport.set_write_buffer_limits(high=0)  # each piece follows when the one before has left
            self._transport.write(head)
            self._send_more()
        elif len(body) > 65536:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)

    def _send_more(self) -> None:
        """Send pieces until one has to wait; ``resume_writing`` goes on."""
        while self._source is not None and not self._transport.get_write_buffer_size():
            try:
                piece = next(self._source, None)
            except OSError as error:
                self._break(f"its input cannot be read: {error}", False)
                return
            if piece is None:
                self._source = None
                self._transport.set_write_buffer_limits()
                return
            self._transport.write(piece)

    def pause(self) -> None:
        """Read no more of the answer until ``resume``."""
        if not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False

    def abort(self) -> None:
        """End the connection; its asker is told nothing more."""
        self._asker = None
        self._source = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether it can be lent."""
        return not self._eof and not self._transport.is_closing()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        """More of the body is sent when ``resume_writing`` says so."""

    def resume_writing(self) -> None:
        self._send_more()

    def data_received(self, data: bytes) -> None:
        if self._asker is None:  # nobody asked
            self._transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("it changed the protocol unasked", False)
            return
        except httptools.HttpParserError as error:
            if not self._complete:
                self._break(f"its answer is not HTTP: {error}", False)
                return
            self._stays = False  # more came behind the answer than it said
        if self._complete:
            self._finish(stays=self._stays)

    def eof_received(self) -> bool:
        self._eof = True
        if self._asker is None:
            return False
        fields = self._fields
        if not self._status or fields is None:
            # Whether our request was refused by a closed socket is known a moment later at the latest.
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._ended)
            return True
        if not self._interim and "length" not in fields and "coding" not in fields:
            self._finish(stays=False)
        return False

    def _ended(self) -> None:
        if self._asker is not None:
            self._break("the connection was closed without an answer", self._fields is None and self._refused())

    def _refused(self) -> bool:
        """Whether the other end's kernel has refused what we sent: then nobody has read it."""
        found = self._transport.get_extra_info("socket")
        try:
            return found is not None and found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        except OSError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        self.pool.lost(self)
        if self._asker is not None:
            unread = isinstance(exc, ConnectionResetError | BrokenPipeError) and self._fields is None
            self._break(f"the connection broke off: {exc or 'closed'}", unread)

    def _break(self, reason: str, unread: bool) -> None:
        asker, self._asker, self._source = self._asker, None, None
        self._transport.abort()
        if asker is not None:
            asker.broken(reason, unread)

    def _finish(self, *, stays: bool) -> None:
        asker, fields, body = cast(Asker, self._asker), cast(Fields, self._fields), self._body
        status = self._status
        self._asker = None
        self._clear()
        stays = stays and self._source is None and not self._transport.get_write_buffer_size()
        self._source = None
        if stays:
            self.resume()
            self.pool.give_back(self)
        else:
            self._transport.abort()
        if self._in_parts:
            asker.done()
        else:
            asker.answered(status, fields, body[0] if len(body) == 1 else b"".join(body))

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("a second answer to one request")
        self._fields = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        field = ANSWER_FIELDS.get(name.lower())
        if field is not None and self._fields is not None and not self._status:  # a trailer changes nothing
            self._fields[field] = value

    def on_headers_complete(self) -> None:
        self._status = status = self._parser.get_status_code()
        self._interim = status < 200
        self._stays = self._parser.should_keep_alive()
        if self._in_parts and not self._interim and self._asker is not None:
            self._asker.head(status, cast(Fields, self._fields))

    def on_body(self, body: bytes) -> None:
        asker = self._asker
        if asker is None:
            return
        if self._in_parts:
            asker.part(body)
            return
        self._held += len(body)
        if self._most and self._held > self._most:
            self.abort()
            asker.too_large()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._clear()
        else:
            self._complete = self._asker is not None


class ContainerPool:
    """The connections to one container: as many as there are requests, up to a limit; then requests wait in line.

    Args:
        container: where it listens.
        most: connections at a time.
        connect_seconds: until a connection must be there.
    """

    def __init__(self, container: Container, most: int, connect_seconds: float) -> None:
        self.container = container
        self._most = most
        self._seconds = connect_seconds
        self._idle: list[ContainerConnection] = []
        self._line: deque[Asker] = deque()
        self._opened = 0
        self._all: set[ContainerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def lease(self, asker: Asker, *, fresh: bool = False) -> None:
        """Give ``asker`` a connection, now or later; ``fresh``: one that was never used."""
        idle = self._idle
        while idle and not fresh:
            connection = idle.pop()
            if connection.usable:
                asker.connected(connection)
                return
        if self._opened < self._most or fresh:
            self._open(asker)
        else:
            self._line.append(asker)

    def give_back(self, connection: ContainerConnection) -> None:
        """The connection can be used again."""
        line = self._line
        while line:
            asker = line.popleft()
            if not asker.over:
                # Not at once: the asker before is told of its answer first.
                asyncio.get_running_loop().call_soon(self._lend, connection, asker)
                return
        if self._closed:
            connection.abort()
        else:
            self._idle.append(connection)

    def _lend(self, connection: ContainerConnection, asker: Asker) -> None:
        if asker.over:
            if connection.usable:
                self.give_back(connection)
        elif connection.usable:
            asker.connected(connection)
        else:
            self.lease(asker)

    def lost(self, connection: ContainerConnection) -> None:
        """The connection has ended."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        self._opened -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        while self._line and self._opened < self._most:
            asker = self._line.popleft()
            if not asker.over:
                self._open(asker)

    def close(self) -> None:
        """End the idle connections now and the others after their answers."""
        self._closed = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _open(self, asker: Asker) -> None:
        self._opened += 1
        task = asyncio.get_running_loop().create_task(self._connect(asker))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, asker: Asker) -> None:
        loop = asyncio.get_running_loop()
        where = self.container
        try:
            opening = loop.create_connection(lambda: ContainerConnection(self), where.host, where.port)
            _, connection = await asyncio.wait_for(opening, self._seconds)
        except (OSError, TimeoutError) as error:
            self._opened -= 1
            reason = str(error) or f"it accepted no connection within {self._seconds:g} s"
            if not asker.over:
                asker.unreachable(reason)
            self._serve_line()
            return
        if not connection.usable:
            self._opened -= 1
            connection.abort()
            if not asker.over:
                asker.broken("the connection was closed at once", unread=True)
            self._serve_line()
            return
        self._all.add(connection)
        if asker.over:
            self.give_back(connection)
        else:
            asker.connected(connection)

    def _serve_line(self) -> None:
        """After a failed attempt the line would wait for nobody: let the next one try."""
        while self._line and self._opened < self._most:
            asker = self._line.popleft()
            if not asker.over:
                self._open(asker)
                return

"""A client's connection: requests in the runtime API's shape, one answered after the other."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Protocol, cast

import httptools

from local_sagemaker.hosting.container_connection import Fields
from local_sagemaker.hosting.container_request import Kind, Request
from local_sagemaker.hosting.event_stream import CONTENT_TYPE, payload_part, stream_error
from local_sagemaker.hosting.exchange import Exchange
from local_sagemaker.hosting.hooks import AsyncAccepted
from local_sagemaker.hosting.invocation_errors import InvocationError, internal, invalid
from local_sagemaker.hosting.limits import HEADER_RULES, InvocationLimits
from local_sagemaker.hosting.tunnel import Tunnel

HEAD_BYTES = 65536
REASONS = {
    200: b"OK",
    202: b"Accepted",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    424: b"Failed Dependency",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}
BODILESS = {204, 304}
OTHER = {b"content-length", b"transfer-encoding", b"expect", b"upgrade"}
KEPT = (b"x-amzn-sagemaker-", b"sec-websocket-")


class Door(Protocol):
    """What a connection needs of the router."""

    limits: InvocationLimits

    def opened(self, connection: ClientConnection) -> None:
        """A client has connected."""

    def closed(self, connection: ClientConnection) -> None:
        """It has left."""

    def request_id(self) -> bytes:
        """One of its own for each answer."""

    def payload_limit(self, path: bytes) -> int:
        """The largest body of a request to ``path``; 0 is no limit."""

    def take(self, call: Call, connection: ClientConnection) -> Exchange | None:
        """Answer a request, or begin to.

        Raises:
            InvocationError: it is refused.
        """

    def tunnel(self, call: Call, connection: ClientConnection) -> Tunnel:
        """Where a client that asked for a bidirectional stream is connected to.

        Raises:
            InvocationError: it is refused.
        """


class Call:
    """One request as a client sends it."""

    __slots__ = (
        "body", "chunked", "expects", "framing", "headers", "held", "length", "method", "offered", "offers", "others",
        "path", "refused", "stays",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = b""
        self.path = b""
        self.headers: dict[bytes, bytes] = {}
        self.others: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self.held = 0
        self.length = 0
        self.framing: tuple[bytes, bytes] | None = None  # the header that says how long the body is
        self.expects = False
        self.offered = b""  # another protocol
        self.offers = False  # and the parser waits for an answer to that
        self.chunked = True  # whether the answer may be
        self.stays = True
        self.refused: InvocationError | None = None

    @property
    def content(self) -> bytes:
        """The whole body."""
        return self.body[0] if len(self.body) == 1 else b"".join(self.body)

    @property
    def opens_tunnel(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self.offered == b"websocket" and self.method == b"GET" and self.framing is None

    def head(self) -> bytes:
        """Its request line and headers without an offer of another protocol."""
        lines = [b"%b %b HTTP/1.1" % (self.method, self.path)]
        lines += [b"%b: %b" % pair for pair in (*self.headers.items(), *self.others)]
        if self.framing is not None:
            lines.append(b"%b: %b" % self.framing)
        if not self.stays:
            lines.append(b"Connection: close")
        return b"\r\n".join(lines) + b"\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    """One connection; also the ``Reply`` of the exchange that it waits for."""

    __slots__ = (
        "_bare",
        "_busy",
        "_call",
        "_chunked",
        "_door",
        "_events",
        "_exchange",
        "_full",
        "_head_bytes",
        "_in_head",
        "_last",
        "_parser",
        "_paused_by_us",
        "_queue",
        "_stays",
        "_transport",
        "_tunnel",
    )  # fmt: skip

    def __init__(self, door: Door) -> None:
        self._door = door
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._call = Call()
        self._queue: deque[Call] = deque()
        self._exchange: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._busy = False
        self._bare = False
        self._events = False
        self._chunked = True
        self._stays = True
        self._full = False
        self._last = False
        self._paused_by_us = False
        self._in_head = False
        self._head_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._busy or self._tunnel is not None

    def finish(self) -> None:
        """Close after the answer that is under way."""
        self._last = True
        if self._tunnel is not None:
            return
        if not self._busy and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._door.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a left client is a left client
        self._door.closed(self)
        self._queue.clear()
        if self._tunnel is not None:
            self._tunnel.close()
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def pause_writing(self) -> None:
        self._full = True
        if self._tunnel is not None:
            self._tunnel.pause()

    def resume_writing(self) -> None:
        self._full = False
        if self._tunnel is not None:
            self._tunnel.resume()
        elif self._exchange is not None:
            self._exchange.resume()
        elif not self._busy and not self._transport.is_closing():
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._tunnel is not None:
            self._tunnel.send(data)
            return
        before = self._call
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._reject(cause if isinstance(cause, InvocationError) else internal(f"{cause!r}"))
        except httptools.HttpParserError as error:
            self._reject(invalid(f"The request is not HTTP/1.1: {error}"))
        else:
            if self._in_head and self._call is before:  # all of it belongs to one unfinished head
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES:
                    self._reject(invalid(f"The request's headers are larger than {HEAD_BYTES} bytes.", 431))

    def _reject(self, error: InvocationError) -> None:
        """Nothing more can be read from this client."""
        self._last = True
        if not self._busy:
            self._stays = False
            self.refuse(error)

    def _upgrade(self, rest: bytes) -> None:
        """The parser has met an offer of another protocol; ``rest`` is what came behind the request's head."""
        call = self._call
        if self._last:
            return
        if not call.offers:  # CONNECT
            self._end_after_answer()
        elif not call.opens_tunnel:  # an offer may be left unanswered: the request is one as any other
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(call.head() + rest)
        elif self._busy or self._queue:
            self._reject(invalid("Only a bidirectional stream can be upgraded to, as the first request."))
        else:
            try:
                self._tunnel = self._door.tunnel(call, self)
            except InvocationError as error:
                self._reject(error)
            else:
                self._tunnel.open(self._transport, rest)

    def _end_after_answer(self) -> None:
        self._last = True
        if not self._busy:
            self._transport.close()

    def tunnel_closed(self, error: InvocationError | None) -> None:
        """The container's end is closed, or could not be reached."""
        self._tunnel = None
        if error is not None:
            self._reject(error)
        else:
            self._transport.close()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._call = Call()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._call.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        call = self._call
        if name in HEADER_RULES:
            call.headers[name] = value
        elif name in OTHER:
            if name == b"content-length":
                call.length = int(value)
                call.framing = (name, value)
            elif name == b"transfer-encoding":
                call.framing = (name, value)
            elif name == b"expect":
                call.expects = value.lower() == b"100-continue"
            else:
                call.offered = value.lower()
        elif name.startswith(KEPT):
            call.others.append((name, value))

    def on_headers_complete(self) -> None:
        call, parser = self._call, self._parser
        self._in_head = False
        self._head_bytes = 0
        call.method = parser.get_method()
        call.stays = parser.should_keep_alive()
        call.chunked = parser.get_http_version() != "1.0"
        call.offers = bool(call.offered) and parser.should_upgrade()
        limit = self._door.payload_limit(call.path)
        if limit and call.length > limit:
            call.refused = too_large(call.length, limit)
        if call.expects and call.chunked and not self._busy:
            if call.refused is not None:
                self._stays = False
                self._last = True
                self.refuse(call.refused)
            else:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        call = self._call
        call.held += len(body)
        if call.refused is not None:
            return
        limit = self._door.payload_limit(call.path)
        if limit and call.held > limit:
            call.refused = too_large(call.held, limit)
            call.body.clear()
            return
        call.body.append(body)

    def on_message_complete(self) -> None:
        call = self._call
        if self._last or call.offers:
            return
        if self._busy or self._full:
            self._queue.append(call)
            if not self._paused_by_us:
                self._paused_by_us = True
                self._transport.pause_reading()
        else:
            self._take(call)

    def _take(self, call: Call) -> None:
        self._busy = True
        self._stays = call.stays
        self._chunked = call.chunked
        self._bare = call.method == b"HEAD"
        if call.refused is not None:
            self.refuse(call.refused)
            return
        try:
            self._exchange = self._door.take(call, self)
            if self._exchange is not None:
                self._exchange.begin()
        except InvocationError as error:
            self.refuse(error)
        except Exception as error:  # noqa: BLE001 - the client gets an answer, whatever is wrong here
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.cancel()
            self.refuse(internal(f"The router failed: {error!r}"))

    def _next(self) -> None:
        if self._queue:
            self._take(self._queue.popleft())
        elif self._paused_by_us:
            self._paused_by_us = False
            self._transport.resume_reading()

    def _answered(self) -> None:
        """The answer is written: close, or take the next request."""
        self._exchange = None
        self._busy = False
        if not self._stays or self._last:
            self._transport.close()
        elif (self._queue or self._paused_by_us) and not self._full:
            asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        if not self._busy and not self._transport.is_closing():
            self._next()

    # What answers.

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """One whole answer."""
        if self._transport.is_closing():  # it left while the control plane was at work
            return
        reason = REASONS.get(status, b"Status")
        if not self._stays or self._last:
            headers += b"Connection: close\r\n"
        elif not self._chunked:
            headers += b"Connection: keep-alive\r\n"
        head = b"HTTP/1.1 %d %b\r\nx-amzn-RequestId: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            status, reason, self._door.request_id(), headers, len(body),
        )  # fmt: skip
        if status in BODILESS:
            self._transport.write(head[: head.rindex(b"Content-Length")] + b"\r\n")
        elif self._bare:
            self._transport.write(head)
        elif len(body) > 65536:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head + body)
        self._answered()

    def answer(self, variant: bytes, status: int, fields: Fields, body: bytes) -> None:
        """A container's whole answer."""
        self.send(status, answer_headers(variant, fields), body)

    def begin(self, variant: bytes, status: int, fields: Fields) -> None:
        """An answer in parts; as an event stream where the client wants one."""
        if self._events or status in BODILESS:  # a stream has a body, be it empty
            status = 200
        headers = answer_headers(variant, fields, events=self._events)
        framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        self._stays = self._stays and self._chunked
        if not self._stays or self._last:
            framing += b"Connection: close\r\n"
        head = b"HTTP/1.1 %d %b\r\nx-amzn-RequestId: %b\r\n%b%b\r\n"
        reason = REASONS.get(status, b"Status")
        self._transport.write(head % (status, reason, self._door.request_id(), headers, framing))

    def chunk(self, data: bytes) -> bool:
        """A part of it; False while the client does not read."""
        if self._events:
            data = payload_part(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return not self._full

    def end(self) -> None:
        """Its end."""
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._answered()

    def refuse(self, error: InvocationError) -> None:
        """An error instead of an answer, or of the rest of one."""
        if error.code == "ModelStreamError":
            self._break_stream(error)
            return
        headers = b"x-amzn-ErrorType: %b\r\nContent-Type: application/json\r\n" % error.code.encode()
        self.send(error.status, headers, json.dumps(error.document).encode())

    def _break_stream(self, error: InvocationError) -> None:
        if not self._events:  # a client that counts on the whole must see that it is not
            self._transport.close()
            return
        self._events = False
        self.chunk(stream_error(str(error.members["ErrorCode"]), error.message))
        self.end()

    def accept(self, accepted: AsyncAccepted) -> None:
        """An asynchronous invocation is queued."""
        headers = (
            f"Content-Type: application/json\r\nX-Amzn-SageMaker-OutputLocation: {accepted.output_location}\r\n"
            f"X-Amzn-SageMaker-FailureLocation: {accepted.failure_location}\r\n"
        )
        self.send(202, headers.encode(), json.dumps({"InferenceId": accepted.inference_id}).encode())

    def wants(self, *, events: bool) -> None:
        """Whether the answer to this request is an event stream."""
        self._events = events


def too_large(length: int, limit: int) -> InvocationError:
    """The request's body is over a limit."""
    return invalid(f"Request {length} bytes exceeds the limit of {limit} bytes.", 413)


def answer_headers(variant: bytes, fields: Fields, *, events: bool = False) -> bytes:
    """The API's headers of an answer."""
    parts = [b"x-Amzn-Invoked-Production-Variant: %b\r\n" % variant] if variant else []
    content_type = fields.get("content_type")
    if events:
        parts.append(b"Content-Type: %b\r\n" % CONTENT_TYPE)
        if content_type is not None:
            parts.append(b"X-Amzn-SageMaker-Content-Type: %b\r\n" % content_type)
    elif content_type is not None:
        parts.append(b"Content-Type: %b\r\n" % content_type)
    custom, closed = fields.get("custom_attributes"), fields.get("closed_session")
    opened = fields.get("new_session") or fields.get("session")
    if custom is not None:
        parts.append(b"X-Amzn-SageMaker-Custom-Attributes: %b\r\n" % custom)
    if opened is not None:  # by both names: the API's and the guide's
        parts.append(b"X-Amzn-SageMaker-New-Session-Id: %b\r\nX-Amzn-SageMaker-Session-Id: %b\r\n" % (opened, opened))
    if closed is not None:
        parts.append(b"X-Amzn-SageMaker-Closed-Session-Id: %b\r\n" % closed)
    return b"".join(parts)


def make_request(call: Call, kind: Kind, path: bytes, seconds: float) -> Request:
    """What a container is asked; the streaming API sends Accept by another name."""
    headers = call.headers
    accept = headers.get(b"x-amzn-sagemaker-accept")
    if accept is not None:
        headers[b"accept"] = accept
    content = call.content
    return Request(kind, headers, content, len(content), path, seconds)

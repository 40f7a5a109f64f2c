"""gunicorn's worker with an event loop, where it falls short of a server that loses no request.

Its own stop waits as long as it may for nginx to close connections that carry nothing, and cuts WebSockets off. Here
requests are finished, idle connections are closed after a moment in which a request may still be on its way, and
streams in both directions are told to come to their end.
"""

import asyncio
import os
import select
from functools import lru_cache
from typing import Any

from gunicorn.asgi.protocol import (
    _CACHED_SERVER_HEADER,
    _REASON_PHRASES,
    ASGIProtocol,
    _get_cached_date_header,
    _valid_websocket_key,
    _validate_response_headers,
)
from gunicorn.asgi.websocket import CLOSE_GOING_AWAY, WebSocketProtocol
from gunicorn.http.errors import InvalidResponseHeader
from gunicorn.workers.gasgi import ASGIWorker

from sagemaker_byoc.errors import HandlerError
from sagemaker_byoc.serving.answers import error_answer
from sagemaker_byoc.serving.asgi_lane import Lane
from sagemaker_byoc.serving.caller import Caller
from sagemaker_byoc.serving.exchange import Answer
from sagemaker_byoc.serving.shortcut import status_line
from sagemaker_byoc.serving.slots import BACKLOG

LINGER_SECONDS = 2.0  # a request may be on its way on a connection that is idle; gunicorn's threads wait as long
STREAM_SECONDS = 10.0  # what a function may still send on a stream that is to end
_LOOK_SECONDS = 0.05


class LoopWorker(ASGIWorker):  # type: ignore[misc]  # gunicorn has no types
    """A worker that answers on one event loop."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections: set[Connection] = set()
        self._ending: float | None = None
        self._told = asyncio.Event()
        # What it finds is kept in the class that is asked, and looked for in this one: a subclass gets the slow parser.
        ASGIProtocol._check_h1c_protocol_available()  # noqa: SLF001

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Threads are used, by ourselves."""

    def handle_exit_signal(self) -> None:
        """SIGTERM."""
        super().handle_exit_signal()
        self._told.set()

    def handle_quit_signal(self) -> None:
        """SIGINT and SIGQUIT."""
        super().handle_quit_signal()
        self._told.set()

    async def _serve(self) -> None:
        for sock in self.sockets:
            server = await self.loop.create_server(lambda: Connection(self), sock=sock.sock, backlog=BACKLOG)
            self.servers.append(server)
        if hasattr(self.asgi, "start"):
            self._starting = asyncio.create_task(self.asgi.start())  # it may load a model; this worker lives meanwhile
        while self.alive and self.ppid == os.getppid():
            self.notify()
            if self._container_stops():
                self._end_streams()
            else:
                self._ending = None
            await self._wait(1.0)
        await self._shutdown()

    async def _shutdown(self) -> None:
        now = self.loop.time()
        linger, deadline = now + LINGER_SECONDS, now + self.cfg.graceful_timeout
        for server in self.servers:
            server.close()
        while self.connections and self.loop.time() < deadline and not self._quick_shutdown:
            self.notify()
            self._end_streams()
            if self.loop.time() >= linger:
                self._close_idle()
            await asyncio.sleep(_LOOK_SECONDS)
        if self.connections and not self._quick_shutdown:
            self.log.error("%d requests were not answered before the worker had to end", len(self.connections))
        if hasattr(self.asgi, "stop"):
            await self.asgi.stop()

    async def _wait(self, seconds: float) -> None:
        """Sleep, but not on after a signal."""
        if self._ending is not None:
            seconds = _LOOK_SECONDS
        try:
            await asyncio.wait_for(self._told.wait(), seconds)
        except TimeoutError:
            return

    def _container_stops(self) -> bool:
        """Whether the container is told to stop, which nginx is told first: it waits for its streams to end."""
        return bool(getattr(self.asgi, "container_stops", lambda: False)())

    def _end_streams(self) -> None:
        """Nothing more comes in; what has not ended some time later is cut off."""
        now = self.loop.time()
        if self._ending is None:
            self._ending = now + STREAM_SECONDS
        for connection in list(self.connections):
            connection.end_stream(cut=now >= self._ending)

    def _close_idle(self) -> None:
        for connection in list(self.connections):
            connection.close_if_idle()


class Connection(ASGIProtocol):  # type: ignore[misc]  # gunicorn has no types
    """One connection, of nginx or of a caller."""

    _discards = False
    _closed: bool
    _response_buffer: bytes
    _task: Any
    _body_receiver: Any
    _callback_parser: Any

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.worker.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.worker.connections.discard(self)
        if self._task is not None and not self._task.done():
            self._task.add_done_callback(self._let_go)

    def _let_go(self, _: Any) -> None:
        """Of what belongs together in circles: Python looks for these only after thousands of broken connections."""
        self._task = self._body_receiver = self._callback_parser = None

    def close_if_idle(self) -> None:
        """Close it unless a request has begun, or lies unread in the socket."""
        if self._awaiting_request and not self._has_unread():
            self._keepalive_timeout()

    def end_stream(self, cut: bool) -> None:
        """If this is a stream in both directions: no more messages, and with `cut` no more time either."""
        if self._websocket is None:
            return
        self._websocket.end_input()
        if cut and not self._websocket.is_cut:
            self._websocket.is_cut = True
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """What comes after an answer that ends the connection is thrown away."""
        if not self._discards:
            super().data_received(data)

    def _close_transport(self) -> None:
        """A body that nobody has read is taken to its end, for a moment: closing before it would take the answer back
        from the caller's socket.
        """
        receiver = self._body_receiver
        if receiver is None or receiver._complete or self._closed or not self.transport:  # noqa: SLF001
            super()._close_transport()
            return
        self._closed = self._discards = True
        self.transport.write_eof()
        self.transport.resume_reading()
        self.worker.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _has_unread(self) -> bool:
        readable = select.poll()
        readable.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(readable.poll(0))

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """Without a task for each request, as our application is done when it has answered. An invocation comes without
        ASGI's messages too: making and checking them takes longer than a small model.
        """
        lane = self.worker.asgi
        if not isinstance(lane, Lane) or not lane.takes(request.method, request.path):
            keep: bool = await self._handle_http_request(request, sockname, peername)
            return keep
        caller = Caller(request.headers_bytes, self._body_receiver.receive, self._is_closed)
        try:
            answer = await lane.answer(caller)
            if isinstance(answer, Answer) and isinstance(answer.body, bytes):
                return await self._write_answer(request, answer, answer.body)
            self.app = lambda _scope, _receive, send: lane.send(answer, caller, send)
            streamed: bool = await self._handle_http_request(request, sockname, peername)
            return streamed
        finally:
            self.app = lane
            caller.forget()

    def _is_closed(self) -> bool:
        return self._closed

    async def _write_answer(self, request: Any, answer: Answer, body: bytes) -> bool:
        if self._closed:
            return False
        # A body that nobody has read would be taken for the next request.
        close: bool = self._will_close(request, False) or not self._body_receiver._complete  # noqa: SLF001
        try:
            more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
            _validate_response_headers(more)
            parts = [_head(request.version, answer.status, answer.content_type), b"%d\r\n" % len(body)]
        except (InvalidResponseHeader, UnicodeEncodeError) as error:
            answer = error_answer(HandlerError(f"the answer's headers cannot be sent: {error}"))
            return await self._write_answer(request, answer, bytes(answer.body))  # type: ignore[arg-type]  # it is bytes
        parts += [b"%b: %b\r\n" % pair for pair in more]
        parts += (_get_cached_date_header(), b"Connection: close\r\n\r\n" if close else b"\r\n")
        self._body_receiver.expect_continue = False
        self._response_buffer = b"".join(parts)
        self._send_body(body)
        if self._flow_control.write_paused:
            await self._flow_control.drain()
        return not close

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        super()._send_response_start(status, headers, request, close)
        self._response_buffer = self._response_buffer.replace(_CACHED_SERVER_HEADER, b"", 1)
        if status not in _REASON_PHRASES:  # it knows the usual ones only
            self._response_buffer = self._response_buffer.replace(b" Unknown\r\n", _phrase(status), 1)

    def _handle_h1c_exception(self, exc: Exception) -> bool:
        """Whether an error of the parser has been answered; gunicorn lets a length of thousands of digits escape."""
        if super()._handle_h1c_exception(exc):
            return True
        if not isinstance(exc, ValueError):
            return False
        self._send_error_response(400, "Bad Request")
        self._close_transport()
        return True

    def _is_websocket_upgrade(self, request: Any) -> bool:
        """What the application does not take as a stream it answers as a request, and says why."""
        if not super()._is_websocket_upgrade(request):
            return False
        takes_stream = getattr(self.app, "takes_stream", None)
        return takes_stream is None or bool(takes_stream())

    async def _handle_websocket(self, request: Any, sockname: Any, peername: Any) -> None:
        headers = dict(request.headers)
        if headers.get("SEC-WEBSOCKET-VERSION", "").strip() != "13":
            self._send_error_response(426, "Upgrade Required", (("Sec-WebSocket-Version", "13"),))
        elif not _valid_websocket_key(headers.get("SEC-WEBSOCKET-KEY", "").strip()):
            self._send_error_response(400, "Bad Request")
        else:
            self._callback_parser = None
            self._websocket = Socket(
                self.transport,
                self._build_websocket_scope(request, sockname, peername),
                self.app,
                self.log,
                max_message_size=self.cfg.websocket_max_message_size,
                drain=self._flow_control.drain,
            )
            await self._websocket.run()


class Socket(WebSocketProtocol):  # type: ignore[misc]  # gunicorn has no types
    """One WebSocket."""

    is_cut = False
    _is_ended = False

    def end_input(self) -> None:
        """The application sees the caller's end after what has already come."""
        if not self._is_ended:
            self._is_ended = True
            self._receive_queue.put_nowait({"type": "websocket.disconnect", "code": CLOSE_GOING_AWAY, "ours": True})

    def _unmask(self, payload: bytes, masking_key: bytes) -> bytes:
        """As whole numbers: a megabyte in a millisecond, in which a loop over bytes takes the time of a request."""
        size = len(payload)
        mask = (masking_key * (size // 4 + 1))[:size]
        return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


@lru_cache(256)
def _head(version: tuple[int, int], status: int, content_type: str) -> bytes:
    """An answer's first lines, up to its length. Raises InvalidResponseHeader."""
    named = content_type.encode("latin-1")
    _validate_response_headers([(b"Content-Type", named)])
    first = f"HTTP/{version[0]}.{version[1]} {status_line(status)}\r\n".encode()
    return first + b"Content-Type: " + named + b"\r\nContent-Length: "


def _phrase(status: int) -> bytes:
    return status_line(status)[3:].encode() + b"\r\n"

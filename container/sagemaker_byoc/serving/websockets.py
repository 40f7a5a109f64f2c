"""Streams in both directions: a WebSocket as the user's `bidirectional_stream_fn` sees it.

Source: the ASGI specification, and SageMaker's InvokeEndpointWithBidirectionalStream.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Self

from sagemaker_byoc.serving.async_service import AsyncService
from sagemaker_byoc.serving.caller import Receive, Scope, Send
from sagemaker_byoc.serving.exchange import ListedHeaders
from sagemaker_byoc.serving.handlers import STREAM, Context, Handler
from sagemaker_byoc.serving.model import Model

NORMAL = 1000
GOING_AWAY = 1001
FAILED = 1011
REASON_BYTES = 123  # of a close frame
log = logging.getLogger(__name__)


class Stream:
    """A stream in both directions: iterate over it for the messages that come, `str` for text and `bytes` for binary
    ones. The iteration ends when the caller has ended the stream, or when the container is told to stop.

    path and query_string: what the caller asked for, the latter without its question mark.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.path: str = scope["path"]
        self.query_string: str = scope["query_string"].decode("latin-1")
        self._receive = receive
        self._send = send
        self._code = NORMAL
        self._is_ended = False
        self.is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        if self._is_ended:
            raise StopAsyncIteration
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._is_ended = True
            if message.get("ours"):  # the container stops: what is still to be said can be said
                self._code = GOING_AWAY
            else:
                self.is_closed = True
            raise StopAsyncIteration
        text: str | None = message.get("text")
        received: str | bytes = message["bytes"] if text is None else text
        return received

    async def send(self, message: str | bytes) -> None:
        """Send one message. Raises ConnectionError when the stream is closed, TypeError for anything but text and
        bytes.
        """
        if self.is_closed:
            raise ConnectionResetError("the stream is closed")
        if isinstance(message, str):
            await self._pass({"type": "websocket.send", "text": message})
        elif isinstance(message, bytes | bytearray | memoryview):
            await self._pass({"type": "websocket.send", "bytes": bytes(message)})
        else:
            raise TypeError(f"a stream sends str or bytes, got a {type(message).__name__}")

    async def close(self, code: int | None = None, reason: str = "") -> None:
        """End the stream. It is done anyway when the function returns."""
        if not self.is_closed:
            self.is_closed = True
            await self._send({"type": "websocket.close", "code": code or self._code, "reason": _cut(reason)})

    async def accept(self) -> None:
        """Begin; done before the user's function is called."""
        await self._receive()
        await self._send({"type": "websocket.accept"})

    async def _pass(self, message: dict[str, Any]) -> None:
        try:
            await self._send(message)
        except OSError as error:
            self.is_closed = True
            raise ConnectionResetError("the caller has gone") from error


async def serve(service: AsyncService, scope: Scope, receive: Receive, send: Send) -> None:
    """One stream from its beginning to its end."""
    stream = Stream(scope, receive, send)
    with service.streaming() as model:
        context = Context(model.context.model_dir, ListedHeaders(scope["headers"]), model.context.device)
        try:
            await stream.accept()
            await _run(stream, model, context)
        except asyncio.CancelledError:
            await stream.close(GOING_AWAY, "the container stops")
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's; the log gets their trace
            if stream.is_closed and isinstance(error, ConnectionError):
                return
            explained = model.handlers[STREAM].explain(error)
            await stream.close(FAILED, str(explained))
        else:
            await stream.close()


async def _run(stream: Stream, model: Model, context: Context) -> None:
    handler = model.handlers[STREAM]
    made = _call(handler, stream, model, context)
    if not isinstance(made, AsyncIterator):
        await made
        return
    async with aclosing(made) as pieces:  # type: ignore[type-var]  # an async generator
        async for piece in pieces:
            await stream.send(piece)


def _call(handler: Handler, stream: Stream, model: Model, context: Context) -> Any:
    if handler.takes_context == "keyword":
        return handler.function(stream, model.value, context=context)
    if handler.takes_context:
        return handler.function(stream, model.value, context)
    return handler.function(stream, model.value)


def _cut(reason: str) -> str:
    """As much of it as a close frame takes."""
    return reason.encode()[:REASON_BYTES].decode(errors="ignore")

"""Whoever sent a request, as an event loop sees them: what they sent, and whether they are still there."""

import asyncio
import io
import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sagemaker_byoc.errors import ClientGone, too_large
from sagemaker_byoc.serving.exchange import ListedHeaders, Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Caller:
    """The sending side of one request in ASGI's terms."""

    __slots__ = ("_has_left", "_leaving", "_receive", "headers", "size")

    def __init__(
        self, headers: list[tuple[bytes, bytes]], receive: Receive, has_left: Callable[[], bool] | None = None
    ) -> None:
        """has_left: where the server knows without being awaited whether the caller is still there."""
        self.headers = headers
        self._receive = receive
        self._has_left = has_left
        self._leaving: asyncio.Future[Message] | None = None
        self.size = 0  # of the body that has been read, in bytes

    async def read(self, deadline: float, largest: int) -> Request:
        """The request with its whole body; `largest`: of how many MB, 0 for no limit.

        Raises ClientGone for a caller that leaves before its end, and TooLarge.
        """
        content_type = accept = ""
        for name, value in self.headers:
            if name == b"content-type":
                content_type = value.decode("latin-1")
            elif name == b"accept":
                accept = f"{accept},{value.decode('latin-1')}" if accept else value.decode("latin-1")
            elif name == b"content-length" and int(value) > largest << 20 > 0:
                raise too_large(largest)
        body = await self._read_body(largest)
        self.size = len(body)
        return Request(body, content_type, accept, ListedHeaders(self.headers), deadline, self.is_here)

    def watch(self) -> None:
        """From now on `is_here` tells the truth, once the loop has had a turn. To be called when the body is read."""
        if self._has_left is None:
            self.leaving()

    def leaving(self) -> "asyncio.Future[Message]":
        """What is done when the caller leaves. To be called when the body is read."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._receive())
        return self._leaving

    def forget(self) -> None:
        """Watch no more."""
        if self._leaving is not None:
            self._leaving.cancel()

    def is_here(self) -> bool:
        """Whether the caller, or nginx for it, still holds the connection; may be asked by any thread."""
        if self._has_left is not None:
            return not self._has_left()
        return self._leaving is None or not self._leaving.done()

    async def _read_body(self, largest: int) -> bytes:
        message = await self._receive_part()
        if not message.get("more_body", False):
            whole: bytes = message.get("body", b"")
            return whole
        limit = largest << 20 or math.inf
        parts = io.BytesIO()  # grows in place, and gives what it has without a copy
        parts.write(message.get("body", b""))
        while message.get("more_body", False):
            if parts.tell() > limit:
                raise too_large(largest)
            message = await self._receive_part()
            parts.write(message.get("body", b""))
        return parts.getvalue()

    async def _receive_part(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("the caller has gone before the end of its request")
        return message

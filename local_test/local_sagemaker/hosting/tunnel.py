"""A bidirectional stream: after the upgrade, bytes pass between a client and a container as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from local_sagemaker.hosting.invocation_errors import InvocationError, unavailable
from local_sagemaker.hosting.routing import Container


class Tunnel(asyncio.Protocol):
    """The container's end of a bidirectional stream.

    Args:
        container: where the WebSocket server listens.
        head: the upgrade request to it.
        seconds: after which both ends are closed.
        connect_seconds: until the container must have accepted the connection.
        closed: told once when it is over, with an error if the container could not be reached.
    """

    def __init__(
        self,
        container: Container,
        head: bytes,
        seconds: float,
        connect_seconds: float,
        closed: Callable[[InvocationError | None], None],
    ) -> None:
        self._container = container
        self._head = head
        self._seconds = seconds
        self._connect_seconds = connect_seconds
        self._closed: Callable[[InvocationError | None], None] | None = closed
        self._client: asyncio.Transport = cast(asyncio.Transport, None)
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    def open(self, client: asyncio.Transport, rest: bytes) -> None:
        """Connect; ``rest`` is what the client sent behind its request."""
        self._client = client
        if rest:
            self._early.append(rest)
        client.pause_reading()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self.close)
        self._opening = loop.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        where = self._container
        try:
            opening = loop.create_connection(lambda: self, where.host, where.port)
            await asyncio.wait_for(opening, self._connect_seconds)
        except (OSError, TimeoutError) as error:
            self._end(unavailable(f"The container cannot be reached: {error}"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._closed is None:
            self._transport.abort()
            return
        self._transport.write(b"".join((self._head, *self._early)))
        self._early.clear()
        self._client.resume_reading()

    def send(self, data: bytes) -> None:
        """Pass on what the client sent."""
        if self._transport is None:
            self._early.append(data)
        else:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def pause(self) -> None:
        """The client does not read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """The client reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if not self._client.is_closing():
            self._client.pause_reading()

    def resume_writing(self) -> None:
        if not self._client.is_closing():
            self._client.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - an end is an end
        self._end(None)

    def close(self) -> None:
        """Close the container's end."""
        if self._transport is not None:
            self._transport.close()
        elif self._opening is not None:
            self._opening.cancel()
        self._end(None)

    def _end(self, error: InvocationError | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(error)

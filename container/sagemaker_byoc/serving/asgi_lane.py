"""The application of the lane with an event loop: ASGI without a framework for what is asked often.

POST /invocations, /ping and /execution-parameters are answered here and streams in both directions are begun; every
other path goes to the application with all the routes.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from sagemaker_byoc.serving import websockets
from sagemaker_byoc.serving.access_lines import print_line
from sagemaker_byoc.serving.async_service import AsyncService, AsyncWatched
from sagemaker_byoc.serving.caller import Caller, Receive, Scope, Send
from sagemaker_byoc.serving.exchange import INFERENCE_ID, Answer, AsyncAnswer, ListedHeaders
from sagemaker_byoc.serving.service import INVOCATIONS
from sagemaker_byoc.serving.shortcut import header_list

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger(__name__)


class Lane:
    """What gunicorn's event loop calls for each request and each stream."""

    def __init__(self, service: AsyncService, routes: Callable[[], Application], answers_invocations: bool) -> None:
        self._service = service
        self._routes = routes
        self._invocations = "/invocations" if answers_invocations else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await websockets.serve(self._service, scope, receive, send)
        elif self.takes(scope["method"], scope["path"]):
            caller = Caller(scope["headers"], receive)
            try:
                await self.send(await self.answer(caller), caller, send)
            finally:
                caller.forget()
        else:
            await self._route(scope, receive, send)

    def takes(self, method: str, path: str) -> bool:
        """Whether a request is an invocation, which a server may bring to `answer` without ASGI's messages."""
        return path == self._invocations and method == "POST"

    async def answer(self, caller: Caller) -> Answer | AsyncAnswer:
        """One invocation. Raises nothing but CancelledError."""
        return await self._service.invoke_async(caller)

    async def send(self, answer: Answer | AsyncAnswer, caller: Caller, send: Send) -> None:
        """An answer as ASGI's messages."""
        await _send(answer, caller, send)

    def takes_stream(self) -> bool:
        """Asked by the server before it begins a stream in both directions; what is refused comes as a request."""
        return self._service.takes_stream()

    def container_stops(self) -> bool:
        """Asked by the server now and then: whether streams should come to their end."""
        return self._service.container_stops

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = (scope["method"], scope["path"])
        if asked in (("GET", "/ping"), ("POST", "/ping")):
            await _send(self._service.ping(), Caller(scope["headers"], receive), send)
        elif asked == ("GET", "/execution-parameters"):
            await _send(self._service.execution_parameters(), Caller(scope["headers"], receive), send)
        elif any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"]):
            await _send(self._service.refuse_stream(), Caller(scope["headers"], receive), send)
        else:
            await self._routes()(scope, receive, send)


class LoggedLane(Lane):
    """The same, with a line on standard output for each request, for a server without nginx in front. The application
    with all the routes prints its own.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        await super().__call__(scope, receive, send)
        if scope["type"] == "websocket":
            inference_id = ListedHeaders(scope["headers"]).get(INFERENCE_ID, "")
            print_line("GET", scope["path"], 101, started, 0, 0, inference_id)

    async def answer(self, caller: Caller) -> Answer | AsyncAnswer:
        started = time.monotonic()
        answer = await super().answer(caller)

        def note(sent: int) -> None:
            inference_id = ListedHeaders(caller.headers).get(INFERENCE_ID, "")
            print_line("POST", INVOCATIONS, answer.status, started, caller.size, sent, inference_id)

        if isinstance(answer, AsyncAnswer):
            return replace(answer, body=AsyncWatched(answer.body, note))
        note(len(answer.body) if isinstance(answer.body, bytes) else 0)
        return answer

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/execution-parameters":
            await self._routes()(scope, receive, send)
        else:
            await super()._route(scope, receive, send)


async def _send(answer: Answer | AsyncAnswer, caller: Caller, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in header_list(answer)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if isinstance(answer.body, bytes):
        await send({"type": "http.response.body", "body": answer.body})
    elif isinstance(answer, AsyncAnswer):
        await _send_stream(answer.body, caller, send)


async def _send_stream(pieces: AsyncIterator[bytes], caller: Caller, send: Send) -> None:
    """Until the last piece has left or the caller has; what makes the pieces is stopped in either case."""
    sending: asyncio.Future[Any] = asyncio.ensure_future(_send_pieces(pieces, send))
    leaving: asyncio.Future[Any] = caller.leaving()
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await pieces.aclose()  # type: ignore[attr-defined]  # the service gives nothing without it


async def _send_pieces(pieces: AsyncIterator[bytes], send: Send) -> None:
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except Exception as error:  # noqa: BLE001 - the log has the trace; the caller sees a stream that is not whole
        log.error("a stream broke off: %s", error)  # noqa: TRY400
    else:
        await send({"type": "http.response.body", "body": b""})

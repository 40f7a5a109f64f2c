"""An ASGI application of the user's (FastAPI, Starlette), alone in the lane with an event loop.

Its start-up (lifespan) runs first, for that is where such an application loads its model; then its own /ping, where it
has one, is asked until it answers 200, and now and then from there on. Source: the ASGI specification, "Lifespan".
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from sagemaker_byoc.serving.application import ASK_SECONDS, FAILURES, LOOK_SECONDS
from sagemaker_byoc.serving.readiness import Readiness

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
STOP_SECONDS = 10.0
log = logging.getLogger(__name__)


class UsersApplication:
    """The user's application, and the marks that say whether it is ready."""

    def __init__(self, application: Application, readiness: Readiness, publish: Callable[[], None]) -> None:
        self._application = application
        self._readiness = readiness
        self._publish = publish
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._from_application: asyncio.Queue[Message] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)

    async def start(self) -> None:
        """The application's start-up; to be called on the worker's loop before anything else.

        One that fails stays as it is: /ping stays 503, and the log has its trace.
        """
        self._lifespan = asyncio.create_task(self._live())
        await self._to_application.put({"type": "lifespan.startup"})
        told = asyncio.create_task(self._from_application.get())
        await asyncio.wait({told, self._lifespan}, return_when=asyncio.FIRST_COMPLETED)
        message = told.result() if told.done() else {"type": "lifespan.startup.complete"}
        if message["type"] == "lifespan.startup.failed":
            log.error("the application could not start, /ping stays 503: %s", message.get("message", ""))
            self._readiness.mark_failed(os.getpid())
            return
        self._looking = asyncio.create_task(self._watch_health())

    async def stop(self) -> None:
        """The application's shut-down."""
        if self._lifespan is not None and not self._lifespan.done():
            await self._to_application.put({"type": "lifespan.shutdown"})
            await asyncio.wait({self._lifespan}, timeout=STOP_SECONDS)

    async def _live(self) -> None:
        scope: Message = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        try:
            await self._application(scope, self._to_application.get, self._from_application.put)
        except Exception as error:  # noqa: BLE001 - one that knows no lifespan raises, and has nothing to do then
            log.debug("the application ended its lifespan: %r", error)

    async def _watch_health(self) -> None:
        pid = os.getpid()
        while (status := await self._ask_ping()) not in (200, 404):  # without a route for it there is nothing to ask
            log.info("not ready: /ping of the application answers %d", status)
            await asyncio.sleep(ASK_SECONDS)
        self._publish()
        self._readiness.mark_loaded(pid)
        log.info("the application is loaded")
        failures = 0
        while status == 200:
            await asyncio.sleep(LOOK_SECONDS)
            failures = 0 if await self._ask_ping() == 200 else failures + 1
            if failures == FAILURES:
                log.warning("not ready: /ping of the application has failed %d times in turn", FAILURES)
                self._readiness.take_mark_away(pid)
            elif failures == 0:
                self._readiness.mark_loaded(pid)

    async def _ask_ping(self) -> int:
        """The status of GET /ping; 500 where it raises."""
        statuses = [500]

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses[0] = message["status"]

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/ping",
            "raw_path": b"/ping",
            "query_string": b"",
            "root_path": "",
            "headers": [],
        }
        with contextlib.suppress(Exception):
            await self._application(scope, receive, send)
        return statuses[0]

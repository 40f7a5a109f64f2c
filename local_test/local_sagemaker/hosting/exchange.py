"""One request on its way: to an instance, through its containers, and the answer back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from random import Random
from typing import Any, Protocol

from local_sagemaker.hosting.capture import Capture, Captured
from local_sagemaker.hosting.container_connection import ContainerConnection, Fields
from local_sagemaker.hosting.container_request import Kind, Request, request_head
from local_sagemaker.hosting.deadlines import Deadlines, Line
from local_sagemaker.hosting.hooks import Hooks
from local_sagemaker.hosting.invocation_errors import (
    InvocationError,
    internal,
    model_error,
    not_ready,
    timed_out,
    unavailable,
)
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.placement import choose_instance, choose_variant, named_container
from local_sagemaker.hosting.replies import NoReply, Reply
from local_sagemaker.hosting.routing import InvocationMode
from local_sagemaker.hosting.sessions import NEW_SESSION, Sessions
from local_sagemaker.hosting.traffic import InstanceTraffic, Traffic, VariantTraffic

ATTEMPTS = 4
ERROR_BYTES = 1 << 20


class Office(Protocol):
    """What an exchange needs of the router."""

    endpoint: str
    limits: InvocationLimits
    hooks: Hooks
    random: Random
    sessions: Sessions
    traffic: Traffic
    capture: Capture | None
    deadlines: Deadlines
    shadows_in_flight: int

    def released(self, place: InstanceTraffic) -> None:
        """An instance has one request less in flight."""

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine function to its end."""


class Exchange:
    """The state of one request.

    A request is in flight on its instance from the choice of the instance until ``_leave``. It ends once: answered,
    refused, or cancelled.
    """

    __slots__ = (
        "_asked", "_attempts", "_began", "_connection", "_copied", "_error_bytes", "_error_parts", "_fields",
        "_handed_on", "_hop", "_in_parts", "_line", "_loop", "_model_seconds", "_office", "_place", "_reply",
        "_request", "_shadow", "_started", "_status", "_traffic", "_tried", "_variant", "over",
    )  # fmt: skip

    def __init__(self, office: Office, request: Request, reply: Reply, shadow: VariantTraffic | None = None) -> None:
        self.over = False
        self._office = office
        self._request = request
        self._reply = reply
        self._shadow = shadow
        self._variant: VariantTraffic | None = shadow
        self._place: InstanceTraffic | None = None
        self._traffic: Traffic = office.traffic
        self._tried: list[InstanceTraffic] = []
        self._connection: ContainerConnection | None = None
        self._line: Line | None = None
        self._hop = 0
        self._attempts = 0
        self._asked = 0.0
        self._model_seconds = 0.0
        self._started = False
        self._status = 0
        self._copied = False
        self._handed_on: tuple[bytes, bytes | None] | None = None  # what the hop before answered, and its type
        self._error_parts: list[bytes] | None = None
        self._error_bytes = 0
        self._fields: Fields = {}
        self._in_parts = request.kind is not Kind.INVOKE
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Choose an instance and ask it."""
        self._began = time.perf_counter()
        self._line = self._office.deadlines.begin(self, self._request.seconds, self._began)
        self._route()

    def _route(self) -> None:
        office = self._office
        try:
            bound = None
            variant = self._shadow
            if variant is None:
                variant, bound = choose_variant(office, self._traffic, self._request.headers)
                if not variant.instances and office.hooks.wake is not None:
                    self._variant = variant
                    self._do(self._wake)
                    return
            self._enter(variant, choose_instance(office, variant, self._request, bound))
        except InvocationError as error:
            self._refuse(error)

    def _enter(self, variant: VariantTraffic, place: InstanceTraffic) -> None:
        """From now on it is in flight on the instance."""
        self._variant, self._place = variant, place
        place.in_flight += 1
        variant.counter.in_flight += 1
        mode = variant.variant.mode
        if mode is InvocationMode.SINGLE:
            pass
        elif mode is InvocationMode.MULTI_MODEL:
            self._do(self._load)
            return
        elif mode is InvocationMode.DIRECT:
            try:
                self._hop = named_container(self._office.endpoint, place, self._request.headers)
            except InvocationError as error:
                self._refuse(error)
                return
        if self._traffic.shadows and self._shadow is None and not self._copied:
            self._copied = True
            self._loop.call_soon(self._copy)
        self._asked = self._asked or time.perf_counter()
        place.pools[self._hop].lease(self)

    def _copy(self) -> None:
        """Send copies to shadow variants; the client's request is already on its way."""
        office = self._office
        if not isinstance(self._request.body, bytes) or b"x-amzn-sagemaker-session-id" in self._request.headers:
            return
        for shadow, share in self._traffic.shadows:
            if office.random.random() >= share:
                continue
            if office.shadows_in_flight >= office.limits.shadows or not shadow.instances:
                shadow.counter.left_out += 1
                continue
            Exchange(office, self._request, NoReply(), shadow).begin()
            office.shadows_in_flight += 1

    def _do(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await something of the control plane's; its failure is the answer."""

        async def guarded() -> None:
            try:
                await work()
            except InvocationError as error:
                self._refuse(error)
            except Exception as error:  # noqa: BLE001 - the client gets an answer, whatever fails there
                self._refuse(internal(f"The request could not be prepared: {error!r}"))

        self._office.spawn(guarded)

    async def _wake(self) -> None:
        """Wait until the variant has an instance, and go on by the table that has it."""
        wake, asleep = self._office.hooks.wake, self._variant
        if wake is None or asleep is None:
            return
        await wake(asleep.variant.name)
        if not self.over:
            self._traffic = self._office.traffic
            found = self._traffic.variant(self._office.random, self._office.endpoint, asleep.name)
            self._enter(found, choose_instance(self._office, found, self._request))

    async def _load(self) -> None:
        """Have the instance load the model, within what the client waits; loading goes on if it takes longer."""
        place, hooks = self._place, self._office.hooks
        target = self._request.headers[b"x-amzn-sagemaker-target-model"].decode()
        if place is None or hooks.load_model is None:
            self._refuse(internal("This endpoint has nothing that loads models."))
            return
        loading = asyncio.ensure_future(hooks.load_model(place.instance, target))
        try:
            name = await asyncio.wait_for(asyncio.shield(loading), self._office.limits.load_seconds)
        except TimeoutError:
            loading.add_done_callback(_forget)
            self._refuse(not_ready(f"Model {target} is still being loaded; send the request again."))
            return
        if self.over:
            return
        self._request = replace(self._request, path=f"/models/{name}/invoke".encode())
        self._asked = self._asked or time.perf_counter()
        place.pools[0].lease(self)

    # What a connection calls.

    def connected(self, connection: ContainerConnection) -> None:
        """Send the request to the container of this hop."""
        request, place = self._request, self._place
        if place is None:
            return
        self._connection = connection
        container = place.instance.containers[self._hop]
        body: bytes | Iterator[bytes]
        if self._handed_on is not None:
            body, length = self._handed_on[0], len(self._handed_on[0])
        elif isinstance(request.body, bytes):
            body, length = request.body, request.length
        else:
            body, length = request.body(), request.length
        content_type = request.headers.get(b"content-type") if self._handed_on is None else self._handed_on[1]
        head = request_head(request, container.authority, length, content_type)
        last = self._hop == len(place.pools) - 1 or self._direct
        limits = self._office.limits
        most = limits.payload_bytes if last else limits.hop_bytes
        connection.ask(self, head, body, most, in_parts=self._in_parts and last)

    @property
    def _direct(self) -> bool:
        return self._variant is not None and self._variant.variant.mode is InvocationMode.DIRECT

    def unreachable(self, reason: str) -> None:
        """Try another instance of the variant, unless the session or the hop is bound to this one."""
        place, variant = self._place, self._variant
        if place is None or variant is None:
            return
        place.avoid()
        self._tried.append(place)
        session = self._request.headers.get(b"x-amzn-sagemaker-session-id", NEW_SESSION)
        bound = session != NEW_SESSION or (self._hop > 0 and not self._direct)
        try:
            if bound:
                raise unavailable(f"Instance {place.instance.name} cannot be reached: {reason}")
            other = choose_instance(self._office, variant, self._request, tried=self._tried)
        except InvocationError as error:
            self._refuse(error, counts_as=503)
            return
        self._leave()
        self._enter(variant, other)

    def answered(self, status: int, fields: Fields, body: bytes) -> None:
        """A container's whole answer."""
        self._connection = None
        place, variant = self._place, self._variant
        if place is None or variant is None:
            return
        now = time.perf_counter()
        self._model_seconds += now - self._asked
        self._asked = now
        self._status = status
        last = self._hop == len(place.pools) - 1 or self._direct
        if not 200 <= status < 300:
            self._fail(status, fields, body)
        elif not last:
            self._hop += 1
            self._handed_on = (body, fields.get("content_type"))
            self._status = 0
            self._attempts = 0
            place.pools[self._hop].lease(self)
        else:
            self._note_session(fields)
            self._reply.answer(variant.name, status, fields, body)
            self._capture(fields, body)
            self._end(status)

    def _fail(self, status: int, fields: Fields, body: bytes) -> None:
        place, variant, request = self._place, self._variant, self._request
        if place is None or variant is None:
            return
        if variant.variant.mode is InvocationMode.MULTI_MODEL and status in {404, 507} and self._attempts == 0:
            self._attempts += 1
            self._do(self._load_again)
            return
        self._note_session(fields)
        if request.kind in {Kind.PLAIN_STREAM, Kind.FORWARD}:  # its reader knows what to do with a container's error
            self._reply.answer(variant.name, status, fields, body)
            self._end(status)
            return
        original = body[: self._office.limits.original_message_bytes].decode("utf-8", "replace")
        self._refuse(model_error(status, original, self._container(), variant.variant.log_stream), status)

    async def _load_again(self) -> None:
        place, forget = self._place, self._office.hooks.forget_model
        target = self._request.headers[b"x-amzn-sagemaker-target-model"].decode()
        if place is not None and forget is not None:
            await forget(place.instance, target, self._status)
        if not self.over:
            await self._load()

    def _container(self) -> str:
        """The container's name in a ModelError: ``primary`` where there is one only."""
        if self._place is None or len(self._place.pools) == 1:
            return "primary"
        return self._place.instance.containers[self._hop].hostname

    def too_large(self) -> None:
        """The container's answer is over a limit."""
        self._connection = None
        if self._variant is None or self._place is None:
            return
        limits = self._office.limits
        last = self._hop == len(self._place.pools) - 1 or self._direct
        limit = limits.payload_bytes if last else limits.hop_bytes
        text = f"payload too large: the response has more than {limit} bytes"
        self._refuse(model_error(0, text, self._container(), self._variant.variant.log_stream), 0)

    def broken(self, reason: str, unread: bool) -> None:
        """The connection has ended. What no container has read is sent again, anything else is not."""
        self._connection = None
        if self.over or self._place is None or self._variant is None:
            return
        self._attempts += 1
        if unread and self._attempts < ATTEMPTS and not self._started:
            self._place.pools[self._hop].lease(self, fresh=True)
        elif self._started:
            self._break_off("StreamBroken", f"The stream of container {self._container()} broke off: {reason}")
        else:
            self._refuse(model_error(0, reason, self._container(), self._variant.variant.log_stream), 0)

    # A streamed answer.

    def head(self, status: int, fields: Fields) -> None:
        """The answer begins: a stream is handed on at once, an error is collected."""
        variant = self._variant
        if variant is None:
            return
        self._fields = fields
        self._status = status
        if not 200 <= status < 300:
            self._error_parts, self._error_bytes = [], 0
            return
        self._started = True
        self._reply.begin(variant.name, status, fields)

    def part(self, chunk: bytes) -> None:
        """A part of it."""
        if self.over:
            return
        if self._error_parts is not None:
            self._error_bytes += len(chunk)
            if self._error_bytes <= ERROR_BYTES:
                self._error_parts.append(chunk)
        elif not self._reply.chunk(chunk) and self._connection is not None:
            self._connection.pause()

    def done(self) -> None:
        """It has ended."""
        self._connection = None
        if self.over:
            return
        self._model_seconds += time.perf_counter() - self._asked
        if self._error_parts is not None:
            body, self._error_parts = b"".join(self._error_parts), None
            self._fail(self._status, self._fields, body)
        else:
            self._reply.end()
            self._end(self._status)

    def resume(self) -> None:
        """The client reads again."""
        if self._connection is not None:
            self._connection.resume()

    def _break_off(self, code: str, message: str) -> None:
        self._reply.refuse(InvocationError("ModelStreamError", 424, message, {"ErrorCode": code}))
        self._end(0)

    # Ends.

    def expire(self) -> None:
        """Its time is up."""
        self._line = None
        if self.over:
            return
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        seconds = self._request.seconds
        if self._started:
            self._break_off("ModelInvocationTimeExceeded", f"The stream did not end within {seconds:g} s.")
        elif self._place is None or self._variant is None:
            self._refuse(unavailable(f"No instance could take the request within {seconds:g} s."))
        elif not self._asked:
            self._refuse(not_ready("The model is still being loaded; send the request again."))
        else:
            self._refuse(timed_out(self._container(), self._variant.variant.log_stream), 0)

    def cancel(self) -> None:
        """Nobody waits any more."""
        if self.over:
            return
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        self._finish()

    def _refuse(self, error: InvocationError, status: int | None = None, counts_as: int | None = None) -> None:
        """Answer with an error.

        Args:
            error: the answer.
            status: the container's, 0 if it gave none, None if it was not asked.
            counts_as: the status that the variant's metrics have where the container was not asked.
        """
        if self.over:
            return
        self._reply.refuse(error)
        if status is not None:
            if not self._status:
                self._model_seconds += time.perf_counter() - self._asked
            self._end(status)
            return
        if counts_as is not None and self._variant is not None:
            self._variant.counter.count(counts_as)
        self._finish()

    def _end(self, status: int) -> None:
        if self._variant is not None:
            model = self._model_seconds
            self._variant.counter.count(status, (model, time.perf_counter() - self._began - model))
        self._finish()

    def _finish(self) -> None:
        self.over = True
        if self._line is not None:
            self._line.waiting.pop(self, None)
            self._line = None
        if self._shadow is not None:
            self._office.shadows_in_flight -= 1
        self._leave()

    def _leave(self) -> None:
        place, variant = self._place, self._variant
        if place is None or variant is None:
            return
        self._place = None
        place.in_flight -= 1
        variant.counter.in_flight -= 1
        self._office.released(place)

    def _note_session(self, fields: Fields) -> None:
        if self._shadow is not None:
            return
        sessions, place = self._office.sessions, self._place
        opened = fields.get("new_session") or fields.get("session")
        asked = self._request.headers.get(b"x-amzn-sagemaker-session-id")
        if opened is not None and asked == NEW_SESSION and place is not None:
            sessions.opened(opened.decode("latin-1"), place.instance.name)
        closed = fields.get("closed_session")
        if closed is not None:
            sessions.closed(closed.decode("latin-1"))

    def _capture(self, fields: Fields, body: bytes) -> None:
        capture, variant, request = self._office.capture, self._variant, self._request
        if capture is None or variant is None or self._shadow is not None or not isinstance(request.body, bytes):
            return
        if self._office.random.random() * 100 >= capture.config.percentage:
            return
        headers = request.headers
        capture.offer(
            Captured(
                variant.variant.name,
                headers.get(b"x-amzn-sagemaker-inference-id", b"").decode("latin-1"),
                time.time(),
                headers.get(b"content-type", b"").decode("latin-1"),
                request.body,
                fields.get("content_type", b"").decode("latin-1"),
                body,
            )
        )


def _forget(loading: asyncio.Future[str]) -> None:
    """Loading that nobody waits for may fail; the next request hears of it."""
    if not loading.cancelled():
        loading.exception()

"""One loopback port in front of an endpoint's containers.

Requests have the runtime API's shape: ``POST /endpoints/NAME/invocations``, ``.../invocations-response-stream``,
``.../async-invocations``, ``.../openai/v1/chat/completions`` and ``/invocations-bidirectional-stream``; for curl also
plain ``POST /invocations``, ``GET /ping`` and ``GET /metrics``. Signatures are not looked at.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, TypeVar

from local_sagemaker.hosting.capture import Capture
from local_sagemaker.hosting.client_connection import Call, ClientConnection, make_request
from local_sagemaker.hosting.container_connection import Fields
from local_sagemaker.hosting.container_request import TOLD, Kind, Request
from local_sagemaker.hosting.deadlines import Deadlines
from local_sagemaker.hosting.exchange import Exchange
from local_sagemaker.hosting.hooks import AsyncAccepted, AsyncInvocation, Hooks
from local_sagemaker.hosting.invocation_errors import InvocationError, internal, invalid, unavailable
from local_sagemaker.hosting.invocation_metrics import VariantCounter, VariantKey, VariantMetrics, prometheus_text
from local_sagemaker.hosting.limits import HEADER_RULES, InvocationLimits
from local_sagemaker.hosting.placement import check_support
from local_sagemaker.hosting.replies import FileReply
from local_sagemaker.hosting.routing import RoutingTable
from local_sagemaker.hosting.sessions import NEW_SESSION, Sessions
from local_sagemaker.hosting.traffic import InstanceTraffic, Traffic
from local_sagemaker.hosting.tunnel import Tunnel

__all__ = ["AsyncAccepted", "AsyncInvocation", "Forward", "Forwarded", "Hooks", "Router"]

ACCOUNT = "000000000000"
PIECE_BYTES = 1 << 18
BACKLOG = 4096
MODEL_PATH, MODEL_QUERY = b"x-amzn-sagemaker-model-invocation-path", b"x-amzn-sagemaker-model-query-string"
VISIBLE = re.compile(rb"[!-~]*")
MEDIA_TYPES = {b"content-type", b"accept"}
T = TypeVar("T")


@dataclass(frozen=True)
class Forward:
    """A request that does not come by the port: an asynchronous invocation's turn.

    ``headers`` are the container's (content-type, accept, x-amzn-sagemaker-...); a Path's file is sent without being
    held in memory. ``variant`` None chooses by weight.
    """

    body: bytes | Path
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 900.0
    variant: str | None = None


@dataclass(frozen=True)
class Forwarded:
    """The container's answer, of whatever status; its body is in the file that was given."""

    status: int
    content_type: str
    custom_attributes: str
    variant: str


@dataclass(frozen=True)
class _Route:
    """What a path asks for: how the answer is wanted, the container's path, and the limits."""

    kind: Kind | None  # None: an asynchronous invocation
    path: bytes
    seconds: float
    most: int


class Router:
    """Made and used on one event loop; ``RouterThread`` gives it one, callable from any thread.

    Args:
        endpoint: its name; another one in a path is answered as the service answers an unknown endpoint.
        table: where requests go.
        limits: the platform's by default.
        seed: of the weighted choice, so that a test repeats; None is unforeseeable.
        hooks: what the control plane does for the router.
        capture: what takes the captured requests; its owner closes it.
    """

    def __init__(
        self,
        endpoint: str,
        table: RoutingTable,
        *,
        limits: InvocationLimits | None = None,
        seed: int | None = None,
        hooks: Hooks | None = None,
        capture: Capture | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.limits = limits or InvocationLimits()
        self.hooks = hooks or Hooks()
        self.random = Random(seed)  # noqa: S311 - it shares traffic out
        self.sessions = Sessions()
        self.capture = capture
        self.deadlines = Deadlines()
        self.shadows_in_flight = 0
        self._counters: dict[VariantKey, VariantCounter] = {}
        self._instances: dict[str, InstanceTraffic] = {}
        self._clients: set[ClientConnection] = set()
        self._drained: dict[str, list[asyncio.Future[None]]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._empty: asyncio.Future[None] | None = None
        identity = os.urandom(10).hex()
        self._identity = f"{identity[:8]}-{identity[8:12]}-4{identity[13:16]}-a{identity[17:20]}-".encode()
        self._answers = int.from_bytes(os.urandom(4))
        self._routes = self._known_paths()
        self.traffic: Traffic
        self.set_table(table)

    def _known_paths(self) -> dict[bytes, _Route]:
        limits, mine = self.limits, b"/endpoints/" + self.endpoint.encode()
        whole = _Route(Kind.INVOKE, b"/invocations", limits.invocation_seconds, limits.payload_bytes)
        events = _Route(Kind.EVENTS, b"/invocations", limits.stream_seconds, limits.payload_bytes)
        chat = _Route(Kind.PLAIN_STREAM, b"/v1/chat/completions", limits.stream_seconds, limits.payload_bytes)
        later = _Route(None, b"", limits.invocation_seconds, limits.inline_bytes)
        return {
            b"/invocations": whole,
            mine + b"/invocations": whole,
            mine + b"/invocations-response-stream": events,
            mine + b"/openai/v1/chat/completions": chat,
            mine + b"/async-invocations": later,
        }

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen, and return the port.

        Raises:
            OSError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self), host, port, backlog=BACKLOG)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    @property
    def table(self) -> RoutingTable:
        """The table in use."""
        return self.traffic.table

    def set_table(self, table: RoutingTable) -> None:
        """Route by another table from the next request on; requests in flight end where they are."""
        wanted = {one.name: one for one in table.instances}
        for name, instance in wanted.items():
            known = self._instances.get(name)
            if known is None:
                self._instances[name] = InstanceTraffic(instance, self.limits)
            else:
                known.retired = False
        for variant in (*table.variants, *table.shadows):
            self._counters.setdefault((variant.name, variant.fleet), VariantCounter())
        self.traffic = Traffic(table, self._instances, self._counters)
        gone = [one for name, one in self._instances.items() if name not in wanted]
        for place in gone:
            place.retired = True
            if not place.in_flight:
                self._drop(place)
        self.sessions.lose({place.instance.name for place in gone})

    def set_capture(self, capture: Capture | None) -> None:
        """Offer captures to another one from the next answer on; the owner of the old one closes it."""
        self.capture = capture

    def metrics(self) -> dict[VariantKey, VariantMetrics]:
        """What each variant's fleets have done since the start; ``later - earlier`` is a period."""
        return {key: counter.snapshot() for key, counter in self._counters.items()}

    def in_flight(self, instance: str | None = None) -> int:
        """Requests that an instance, or all of them, have not answered yet, streams included."""
        if instance is None:
            return sum(one.in_flight for one in self._instances.values())
        known = self._instances.get(instance)
        return 0 if known is None else known.in_flight

    async def drain(self, instance: str, limit_seconds: float) -> bool:
        """Wait until an instance has answered all it had; whether it has within the limit.

        Take it out of the table first, or new requests keep coming.
        """
        if not self.in_flight(instance):
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained.setdefault(instance, []).append(waiter)
        try:
            await asyncio.wait_for(waiter, limit_seconds)
        except TimeoutError:
            return False
        return True

    async def forward(self, request: Forward, answer: BinaryIO) -> Forwarded:
        """Send a request to an instance and write the answer's body to a file, with bounded memory.

        Raises:
            InvocationError: ServiceUnavailable (no instance), ModelError (time-out, broken answer).
            OSError: a file cannot be read or written.
        """
        headers = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in request.headers.items()}
        if request.variant is not None:
            headers[b"x-amzn-sagemaker-target-variant"] = request.variant.encode()
        body, length = _pieces(request.body)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[tuple[int, Fields, bytes]] = loop.create_future()
        sent = Request(Kind.FORWARD, headers, body, length, seconds=request.seconds)
        exchange = Exchange(self, sent, FileReply(answer, result))
        exchange.begin()
        try:
            status, fields, variant = await result
        finally:
            exchange.cancel()
        content_type = fields.get("content_type", b"").decode("latin-1")
        custom = fields.get("custom_attributes", b"").decode("latin-1")
        return Forwarded(status, content_type, custom, variant.decode())

    async def stop(self, limit_seconds: float = 30.0) -> None:
        """Accept nothing more, let what is in flight end within the limit, close everything."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.finish()
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_seconds
        for name in list(self._instances):
            await self.drain(name, max(0.0, end - loop.time()))
        if self._clients:  # the last answers are still being read
            self._empty = loop.create_future()
            await asyncio.wait([self._empty], timeout=max(0.0, end - loop.time()))
        for client in list(self._clients):
            client.abort()
        for place in self._instances.values():
            place.close()
        for task in list(self._tasks):
            task.cancel()

    # What exchanges need.

    def released(self, place: InstanceTraffic) -> None:
        """An instance has one request less in flight."""
        if place.in_flight:
            return
        if self._drained:
            for waiter in self._drained.pop(place.instance.name, ()):
                if not waiter.done():
                    waiter.set_result(None)
        if place.retired:
            self._drop(place)

    def _drop(self, place: InstanceTraffic) -> None:
        place.close()
        if self._instances.get(place.instance.name) is place:
            del self._instances[place.instance.name]

    def spawn(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine function to its end."""
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What clients need.

    def opened(self, connection: ClientConnection) -> None:
        """A client has connected."""
        self._clients.add(connection)

    def closed(self, connection: ClientConnection) -> None:
        """It has left."""
        self._clients.discard(connection)
        if self._empty is not None and not self._clients and not self._empty.done():
            self._empty.set_result(None)

    def request_id(self) -> bytes:
        """One of its own for each answer, in the shape of a UUID."""
        self._answers += 1
        return b"%b%012x" % (self._identity, self._answers & 0xFFFFFFFFFFFF)

    def payload_limit(self, path: bytes) -> int:
        """The largest body of a request to ``path``."""
        route = self._routes.get(path)
        return self.limits.payload_bytes if route is None else route.most

    def take(self, call: Call, connection: ClientConnection) -> Exchange | None:
        """Begin to answer a request; the exchange, if a container is asked.

        Raises:
            InvocationError: it is refused.
        """
        route = self._routes.get(call.path) or self._routes.get(call.path.partition(b"?")[0])
        if route is None or call.method != b"POST":
            self._answer_other(call, connection)
            return None
        check_headers(call)
        if route.kind is None:
            self._enqueue(call, connection)
            return None
        if self.table.asynchronous:
            raise invalid(f"Endpoint {self.endpoint} is asynchronous and does not support real-time invocations.")
        if route.kind is Kind.EVENTS and call.headers.get(b"x-amzn-sagemaker-session-id") == NEW_SESSION:
            raise invalid("A session cannot be created by a request for a response stream.")
        connection.wants(events=route.kind is Kind.EVENTS)
        return Exchange(self, make_request(call, route.kind, route.path, route.seconds), connection)

    def _answer_other(self, call: Call, connection: ClientConnection) -> None:
        path = call.path.partition(b"?")[0]
        if path in self._routes:
            raise InvocationError("MethodNotAllowed", 405, f"{path.decode('latin-1')} takes POST.")
        if path == b"/ping":
            connection.send(200 if self.traffic.ready and not self._stopping else 503, b"", b"")
        elif path == b"/metrics":
            text = prometheus_text(self.metrics())
            connection.send(200, b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n", text)
        else:
            raise self._unknown(path.decode("latin-1"))

    def _unknown(self, path: str) -> InvocationError:
        path = path[:256]
        parts = path.split("/")
        if len(parts) > 3 and parts[1] == "endpoints" and parts[2] != self.endpoint:
            return invalid(f"Endpoint {parts[2]} of account {ACCOUNT} not found.")
        return InvocationError("UnknownOperationException", 404, f"There is no operation at {path}.")

    def _enqueue(self, call: Call, connection: ClientConnection) -> None:
        enqueue = self.hooks.enqueue
        if enqueue is None or not self.table.asynchronous:
            raise invalid(f"Endpoint {self.endpoint} is not asynchronous and does not support InvokeEndpointAsync.")
        named = {**dict(call.others), **call.headers}
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in named.items()}

        async def work() -> None:
            try:
                accepted = await enqueue(AsyncInvocation(headers, call.content))
            except InvocationError as error:
                connection.refuse(error)
            except Exception as error:  # noqa: BLE001 - the client is told whatever the queue's failure is
                connection.refuse(internal(f"The request could not be queued: {error}"))
            else:
                connection.accept(accepted)

        self.spawn(work)

    def tunnel(self, call: Call, connection: ClientConnection) -> Tunnel:
        """Where a client that asked for a bidirectional stream is connected to.

        Raises:
            InvocationError: it is refused.
        """
        path = call.path.partition(b"?")[0]
        if path not in (b"/invocations-bidirectional-stream", self._own(b"/invocations-bidirectional-stream")):
            raise self._unknown(path.decode("latin-1"))
        check_headers(call)
        if self._stopping:
            raise unavailable(f"Endpoint {self.endpoint} is being stopped.")
        target = call.headers.get(b"x-amzn-sagemaker-target-variant")
        variant = self.traffic.variant(self.random, self.endpoint, target)
        check_support(self.endpoint, variant, call.headers)
        place = variant.choose(self.random)
        container = place.instance.containers[0]
        head = tunnel_head(call, container.authority)
        place.in_flight += 1
        variant.counter.in_flight += 1

        def closed(error: InvocationError | None) -> None:
            place.in_flight -= 1
            variant.counter.in_flight -= 1
            self.released(place)
            connection.tunnel_closed(error)

        return Tunnel(container, head, self.limits.bidirectional_seconds, self.limits.connect_seconds, closed)

    def _own(self, path: bytes) -> bytes:
        return b"/endpoints/" + self.endpoint.encode() + path


def check_headers(call: Call) -> None:
    """Raise ValidationError, in the service's words, for a header of the API that is not what it may be."""
    for name, value in call.headers.items():
        objection = _objection_to_media_type(name, value) if name in MEDIA_TYPES else _objection(name, value)
        if objection is not None:
            raise invalid(objection)


def _objection(name: bytes, value: bytes) -> str | None:
    return HEADER_RULES[name].objection(value.decode("latin-1"))


_objection_to_media_type = lru_cache(maxsize=256)(_objection)  # which all requests of a client share


def tunnel_head(call: Call, host: bytes) -> bytes:
    """The upgrade request to the container: its path, the WebSocket's headers and the API's.

    Raises:
        InvocationError: the path or the query would be more than that.
    """
    others = dict(call.others)
    path = b"/" + others.get(MODEL_PATH, b"invocations-bidirectional-stream").lstrip(b"/")
    query = others.get(MODEL_QUERY)
    for name in (MODEL_PATH, MODEL_QUERY):
        if not VISIBLE.fullmatch(others.get(name, b"")):
            raise invalid(f"{name.decode()} may hold visible ASCII characters only, and no space.")
    lines = [b"GET %b HTTP/1.1" % (path if query is None else path + b"?" + query), b"Host: " + host]
    lines += [b"Connection: Upgrade", b"Upgrade: websocket"]
    lines += [b"%b: %b" % (name, value) for name, value in call.others if name.startswith(b"sec-websocket")]
    lines += [b"%b: %b" % (name, call.headers[name]) for name in TOLD if name in call.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _pieces(body: bytes | Path) -> tuple[bytes | Callable[[], Iterator[bytes]], int]:
    if isinstance(body, bytes):
        return body, len(body)

    def read() -> Iterator[bytes]:
        with body.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    return read, body.stat().st_size

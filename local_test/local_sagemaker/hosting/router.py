"""One loopback port in front of an endpoint's containers (interface; the implementation follows today)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.routing import Instance, RoutingTable


@dataclass(frozen=True)
class AsyncInvocation:
    """A request of InvokeEndpointAsync: its headers (lower-case names, as sent) and its inline body, maybe empty."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class AsyncAccepted:
    """What InvokeEndpointAsync answers."""

    inference_id: str
    output_location: str
    failure_location: str


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
    instance: str


@dataclass(frozen=True)
class Hooks:
    """What the control plane does for the router. All run on the router's loop: they await, they do not block.

    Attributes:
        enqueue: takes an asynchronous invocation; raises InvocationError to refuse it.
        load_model: makes sure that an instance has loaded a TargetModel and returns its name in the container; called
            for each request, so quick when it is loaded; raises InvocationError (no such model).
        forget_model: the container says (404, 507) that it does not have the model after all; load_model is called next.
        wake: a request came for a variant without instances; returns when the router's table has one.
    """

    enqueue: Callable[[AsyncInvocation], Awaitable[AsyncAccepted]] | None = None
    load_model: Callable[[Instance, str], Awaitable[str]] | None = None
    forget_model: Callable[[Instance, str, int], Awaitable[None]] | None = None
    wake: Callable[[str], Awaitable[None]] | None = None


class Router:
    """Made and used on one event loop (``RouterThread`` gives it a loop in a thread, callable from any thread).

    Args:
        endpoint: its name; another one in a path is answered as the service answers an unknown endpoint.
        table: where requests go.
        limits: the platform's by default.
        seed: of the weighted choice, so that a test repeats; None is unforeseeable.
        hooks: what the control plane does for the router.
        capture: a capture.Capture, or None.
    """

    def __init__(
        self,
        endpoint: str,
        table: RoutingTable,
        *,
        limits: InvocationLimits | None = None,
        seed: int | None = None,
        hooks: Hooks | None = None,
        capture: object | None = None,
    ) -> None:
        raise NotImplementedError

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen, and return the port."""
        raise NotImplementedError

    @property
    def table(self) -> RoutingTable:
        """The table in use."""
        raise NotImplementedError

    def set_table(self, table: RoutingTable) -> None:
        """Route by another table from the next request on; requests in flight end where they are."""
        raise NotImplementedError

    def set_capture(self, capture: object | None) -> None:
        """Capture by another configuration from the next request on; the old one is returned closed by its owner."""
        raise NotImplementedError

    def in_flight(self, instance: str | None = None) -> int:
        """Requests that an instance (or all) has not answered yet, streams included."""
        raise NotImplementedError

    async def drain(self, instance: str, limit_seconds: float) -> bool:
        """Wait until an instance that the table no longer has answered all it had; whether it did within the limit."""
        raise NotImplementedError

    async def forward(self, request: Forward, answer: BinaryIO) -> Forwarded:
        """Send a request to an instance and write the answer's body to a file, with bounded memory.

        Raises:
            InvocationError: ServiceUnavailable (no instance), ModelError (time-out, broken answer).
        """
        raise NotImplementedError

    def metrics(self) -> Mapping[tuple[str, str], object]:
        """(variant, fleet) -> invocation_metrics.VariantMetrics: a frozen snapshot; later - earlier is a period."""
        raise NotImplementedError

    async def stop(self, limit_seconds: float = 30.0) -> None:
        """Accept nothing more, let what is in flight end within the limit, close everything."""
        raise NotImplementedError

"""What the control plane does for the router."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from local_sagemaker.hosting.routing import Instance


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
class Hooks:
    """What the control plane does for the router. All run on the router's loop: they await, they do not block.

    Attributes:
        enqueue: takes an asynchronous invocation; raises InvocationError to refuse it.
        load_model: makes sure that an instance has loaded a TargetModel and returns its name in the container; called
            for each request, so quick when it is loaded; raises InvocationError (no such model).
        forget_model: the container says with this status (404, 507) that it does not have the model after all;
            load_model is called next.
        wake: a request came for a variant without instances; returns when the router's table has one.
    """

    enqueue: Callable[[AsyncInvocation], Awaitable[AsyncAccepted]] | None = None
    load_model: Callable[[Instance, str], Awaitable[str]] | None = None
    forget_model: Callable[[Instance, str, int], Awaitable[None]] | None = None
    wake: Callable[[str], Awaitable[None]] | None = None

"""A router that works beside everything else that an endpoint's process does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, BinaryIO, TypeVar

from local_sagemaker.hosting.capture import Capture
from local_sagemaker.hosting.hooks import Hooks
from local_sagemaker.hosting.invocation_metrics import VariantKey, VariantMetrics
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.router import Forward, Forwarded, Router
from local_sagemaker.hosting.routing import RoutingTable

T = TypeVar("T")


class RouterThread:
    """A router on a loop (uvloop) of its own, in a thread of its own; every method may be called from any thread.

    The arguments are ``Router``'s. Hooks run on that loop.
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
        import uvloop  # noqa: PLC0415 - not every verb needs a router

        self._router = Router(endpoint, table, limits=limits, seed=seed, hooks=hooks, capture=capture)
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"router-{endpoint}", daemon=True)

    def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen, and return the port; see ``Router.start``."""
        self._thread.start()
        try:
            return self._await(self._router.start(port, host))
        except OSError:
            self._end()
            raise

    @property
    def table(self) -> RoutingTable:
        """The table in use."""
        return self._router.table

    def set_table(self, table: RoutingTable) -> None:
        """See ``Router.set_table``; the next request goes by it when this returns."""
        self._ask(lambda: self._router.set_table(table))

    def set_capture(self, capture: Capture | None) -> None:
        """See ``Router.set_capture``."""
        self._ask(lambda: self._router.set_capture(capture))

    def metrics(self) -> dict[VariantKey, VariantMetrics]:
        """See ``Router.metrics``."""
        return self._ask(self._router.metrics)

    def in_flight(self, instance: str | None = None) -> int:
        """See ``Router.in_flight``."""
        return self._ask(lambda: self._router.in_flight(instance))

    def drain(self, instance: str, limit_seconds: float) -> bool:
        """See ``Router.drain``; blocks."""
        return self._await(self._router.drain(instance, limit_seconds))

    def forward(self, request: Forward, answer: BinaryIO) -> Forwarded:
        """See ``Router.forward``; blocks."""
        return self._await(self._router.forward(request, answer))

    def submit(self, request: Forward, answer: BinaryIO) -> Future[Forwarded]:
        """See ``Router.forward``; does not block."""
        return asyncio.run_coroutine_threadsafe(self._router.forward(request, answer), self._loop)

    def stop(self, limit_seconds: float = 30.0) -> None:
        """See ``Router.stop``; blocks, and does nothing the second time."""
        if self._thread.is_alive():
            self._await(self._router.stop(limit_seconds))
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _ask(self, ask: Callable[[], T]) -> T:
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            return ask()

        async def work() -> T:
            return ask()

        return self._await(work())

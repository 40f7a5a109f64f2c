"""The event loop of a transform job, in which a signal is heard between two steps and never amid one.

It is uvloop, whose own work for a small request is a fraction of that of asyncio's loop.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

Result = TypeVar("Result")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_in_loop(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a loop of its own.

    Raises:
        KeyboardInterrupt: or what else the handler of a signal has raised; the coroutine is cancelled first.
    """
    import uvloop  # noqa: PLC0415 - not every verb runs a job

    raised: list[BaseException] = []

    async def between_steps() -> Result:
        with _signals_between_steps(raised):
            return await main

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(between_steps())
    finally:
        if raised:
            raise raised[0]


@contextmanager
def _signals_between_steps(raised: list[BaseException]) -> Iterator[None]:
    """Call the handlers of signals from the loop, and cancel the task if one raises.

    Where they are called otherwise, amid whatever is done, parser and transport take what they raise for an error of
    the connection. Python gives signals to the main thread only.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    in_main_thread = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in SIGNALS if in_main_thread}
    before = {number: handler for number, handler in found.items() if callable(handler)}

    def let_through(number: int) -> None:
        try:
            before[signal.Signals(number)](number, None)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt above all, which is raised at the end
            raised.append(error)
            if task is not None:
                task.cancel()

    def hold(number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(let_through, number)

    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""When requests must have ended: one timer for all that were given the same time, instead of one for each."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

LEAST_SECONDS = 0.001  # an event loop's clock is no finer


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """It is over."""


class Line:
    """All that have the same time, in the order of their deadlines, which is the order in which they began.

    Attributes:
        waiting: their deadlines, by the performance counter; whoever ends before leaves by itself.
    """

    __slots__ = ("_lines", "_seconds", "_timer", "waiting")

    def __init__(self, seconds: float, lines: dict[float, Line]) -> None:
        self.waiting: dict[Expiring, float] = {}
        self._seconds = seconds
        self._lines = lines
        self._timer: asyncio.TimerHandle | None = None

    def add(self, one: Expiring, now: float) -> None:
        """The deadline of ``one`` is its seconds from ``now``."""
        self.waiting[one] = now + self._seconds
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def _look(self) -> None:
        now = time.perf_counter()
        while self.waiting:
            first, deadline = next(iter(self.waiting.items()))
            if deadline > now:
                left = max(deadline - now, LEAST_SECONDS)
                self._timer = asyncio.get_running_loop().call_later(left, self._look)
                return
            del self.waiting[first]
            first.expire()
        self._timer = None
        self._lines.pop(self._seconds, None)


class Deadlines:
    """The deadlines of all requests in flight; used on one event loop."""

    def __init__(self) -> None:
        self._lines: dict[float, Line] = {}

    def begin(self, one: Expiring, seconds: float, now: float) -> Line:
        """Have ``one`` expire; to prevent it, take it out of the ``waiting`` of the answer."""
        line = self._lines.get(seconds)
        if line is None:
            line = self._lines[seconds] = Line(seconds, self._lines)
        line.add(one, now)
        return line

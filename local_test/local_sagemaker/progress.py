"""What a person sees while waiting: what is awaited, for how long, against which limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from rich.status import Status

from local_sagemaker.console import plain_console

LINE_EVERY_SECONDS = 10.0


@dataclass(frozen=True)
class Progress:
    """What is being waited for: in words, since when and against which limit, in seconds."""

    awaited: str
    elapsed_seconds: float
    limit_seconds: float

    def __str__(self) -> str:
        return f"waiting for {self.awaited}: {self.elapsed_seconds:.0f} s of {self.limit_seconds:.0f} s"


def silent(_: object) -> None:
    """Report nothing."""


def say(line: str) -> None:
    """Write one line for the user to standard error, which is never part of a result; it goes on without a reader."""
    with suppress(OSError):
        print(f"byoc: {line}", file=sys.stderr, flush=True)


class TerminalProgress:
    """Shows progress on standard error: a live line on a terminal, elsewhere a line every ten seconds.

    It is a context that lasts as long as the waiting; outside of it nothing is shown.
    """

    def __init__(self) -> None:
        self._status: Status | None = None
        self._last_line = 0.0

    def __enter__(self) -> Callable[[Progress], None]:
        """Begin to show."""
        console = plain_console()
        self._last_line = time.monotonic()
        if console.is_terminal:
            self._status = console.status("starting")
            self._status.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        """Clear the live line."""
        if self._status is not None:
            self._status.stop()

    def _show(self, progress: Progress) -> None:
        if self._status is not None:
            self._status.update(str(progress))
        elif time.monotonic() - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = time.monotonic()
            say(str(progress))

"""SIGTERM as process 1 has it: whether it listens, and how the container ends after it was sent."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from local_sagemaker.conformance.container import Process, Thread

SIGTERM = 15
POLL_SECONDS = 0.2
# One reading can fall between two system calls: so many, over so long, are believed.
DEAF_READINGS = 4
DEAF_SECONDS = 5.0
SHELL = re.compile(r"-?(.*/)?(ba|da|a|z|k)?sh")


class Signalled(Protocol):
    """A container, as far as signals go."""

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""

    def threads(self) -> list[Thread]:
        """Those of process 1; none where nobody can look."""

    def processes(self) -> list[Process]:
        """All that run inside."""

    def command(self) -> list[str]:
        """Of process 1, word by word; empty where nobody can look."""


@dataclass(frozen=True)
class Stop:
    """What became of a container after SIGTERM.

    Attributes:
        ended: whether it ended.
        seconds: from now until the end, or for how long it was watched.
        deaf: whether process 1 was seen, again and again, not to listen.
    """

    ended: bool
    seconds: float
    deaf: bool


def hears_sigterm(threads: Sequence[Thread]) -> bool | None:
    """Whether process 1 takes SIGTERM, by a handler or by waiting for it; None where that cannot be told.

    The kernel drops the signal otherwise, as nobody may end a process 1 that does not ask for it. A thread that waits
    for blocked signals shows none of them as blocked: it is known by the call that it sleeps in.
    """
    if any(mask >> (SIGTERM - 1) & 1 for one in threads for mask in (one.caught, one.blocked)):
        return True
    if any("sigtimedwait" in one.sleeps_in or "sigsuspend" in one.sleeps_in for one in threads):
        return True
    known = all(one.state == "R" or one.sleeps_in not in {"", "0"} for one in threads)
    return False if threads and known else None


def shell_that_waits(container: Signalled) -> list[str] | None:
    """The lines that show process 1 to be a shell that waits for its child and has no trap; None if it is not."""
    command = container.command()
    if not command or not SHELL.fullmatch(command[0]) or hears_sigterm(container.threads()) is not False:
        return None
    children = [one.name for one in container.processes() if one.parent == 1]
    if not children:
        return None
    return [f"process 1: {' '.join(command)[:300]}", f"its child: {', '.join(children)}"]


def await_stop(container: Signalled, limit: float, readings: int = 0) -> Stop:
    """Wait for the end after SIGTERM for ``limit`` seconds; less where process 1 will never hear of it.

    Args:
        container: was sent SIGTERM.
        limit: in seconds.
        readings: how often process 1 was seen not to listen before.
    """
    start = time.monotonic()
    before = readings
    listens = False
    while not container.has_ended:
        elapsed = time.monotonic() - start
        deaf = readings >= DEAF_READINGS and readings > before and not listens
        if elapsed >= limit or (deaf and elapsed >= DEAF_SECONDS):
            return Stop(ended=False, seconds=elapsed, deaf=deaf)
        if not listens:
            heard = hears_sigterm(container.threads())
            listens = heard is True or (heard is None and not container.has_ended)
            readings += heard is False
        time.sleep(POLL_SECONDS)
    deaf = readings >= DEAF_READINGS and readings > before and not listens
    return Stop(ended=True, seconds=time.monotonic() - start, deaf=deaf)

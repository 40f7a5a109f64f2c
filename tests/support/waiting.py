"""Wait for a predicate, never for a length of time; and measure one on a machine that has other things to do."""

import time
from collections.abc import Callable


def wait_until(
    predicate: Callable[[], object],
    what: str,
    seconds: float = 120.0,
    ended: Callable[[], str | None] = lambda: None,
    interval: float = 0.02,
) -> None:
    """Return as soon as ``predicate`` is true.

    Args:
        predicate: asked again and again.
        what: what is awaited, for the message.
        seconds: the limit.
        ended: gives a text as soon as waiting longer is pointless (the process is gone, say), else None.
        interval: seconds between two askings; longer where asking costs, as each `docker` command does.

    Raises:
        AssertionError: the limit passed, or ``ended`` gave a text. The message says which.
    """
    deadline = time.monotonic() + seconds
    while not predicate():
        why = ended()
        if why is not None and not predicate():
            raise AssertionError(f"{what}: will not happen any more, {why}")
        if time.monotonic() > deadline and not predicate():  # it may have been this process that stood still
            raise AssertionError(f"{what}: not within {seconds:g} s; {ended() or 'the process still runs'}")
        time.sleep(interval)


def quickest(take: Callable[[], object], seconds: float, tries: int = 5) -> float:
    """The shortest time that ``take`` took, in seconds; it is not called again once it took less than ``seconds``.

    A busy machine makes it slow now and then. What is slow by itself is slow each time.
    """
    best = float("inf")
    for _ in range(tries):
        began = time.monotonic()
        take()
        best = min(best, time.monotonic() - began)
        if best < seconds:
            break
    return best

"""Wait for a predicate, never for a length of time."""

import time
from collections.abc import Callable


def wait_until(
    predicate: Callable[[], object],
    what: str,
    seconds: float = 30.0,
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
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s; {ended() or 'the process still runs'}")
        time.sleep(interval)

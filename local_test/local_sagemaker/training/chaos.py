"""Faults on demand: when a spot instance is taken away, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass

from local_sagemaker.errors import UsageError

SPOT = re.compile(r"spot-after=(?P<after>[0-9]+(\.[0-9]+)?)s?(?P<kill>:kill)?(:wait=(?P<wait>[0-9]+(\.[0-9]+)?)s?)?")


@dataclass(frozen=True)
class Interruption:
    """A spot instance is taken away.

    Attributes:
        after_seconds: of training in one attempt.
        kill: with SIGKILL at once; the platform does not promise SIGTERM.
        wait_seconds: until there is another instance.
    """

    after_seconds: float
    kill: bool = False
    wait_seconds: float = 0.0


def parse_chaos(texts: tuple[str, ...]) -> tuple[Interruption, ...]:
    """Read ``spot-after=SECONDS[s][:kill][:wait=SECONDS[s]]``, one for each attempt in turn.

    Raises:
        UsageError: if a text is not of this form.
    """
    matches = [SPOT.fullmatch(text) for text in texts]
    for text, match in zip(texts, matches, strict=True):
        if match is None:
            raise UsageError(
                f"--chaos {text!r} cannot be read",
                "expected spot-after=SECONDS, with :kill for SIGKILL and :wait=SECONDS until there is another instance",
                "write for example --chaos spot-after=30s, or --chaos spot-after=5s:kill:wait=10s",
            )
    return tuple(
        Interruption(float(match["after"]), match["kill"] is not None, float(match["wait"] or 0))
        for match in matches
        if match is not None
    )

"""One finding of ``byoc doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Need = Literal["both", "docker", "process", "optional"]


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        found: what was found.
        needed_for: ``both`` engines, one of them, or ``optional``.
        next_step: what to do if it is not ok.
    """

    name: str
    ok: bool
    found: str
    needed_for: Need
    next_step: str = ""

"""A number that a verb is given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click import Context, Parameter


class Number(click.FloatRange):
    """A float within bounds; ``nan`` and ``inf``, which Python reads as floats, are none."""

    name = "number"

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        """The number; fails for anything else."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


SECONDS = Number(min=0)

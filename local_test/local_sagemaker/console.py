"""Where tables and reports are shown: consoles that show every text as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from typing import TextIO


def plain_console(file: TextIO | None = None, width: int | None = None) -> Console:
    """A console without rich's codes: the image ``digits:rocket:`` is no picture, and the category ``[red]`` no colour.

    Args:
        file: where to; by default standard error.
        width: in characters; by default the terminal's.
    """
    return Console(file=file, stderr=file is None, width=width, markup=False, emoji=False)

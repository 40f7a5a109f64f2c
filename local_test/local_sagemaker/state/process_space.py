"""Where process numbers are unique: this machine, or a container of it that shares the machine's engine."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path


def process_space() -> str:
    """The name of it: whose process numbers are of another one cannot be judged from here."""
    with suppress(OSError):
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    return platform.node()

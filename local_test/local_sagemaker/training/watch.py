"""Training again whenever the code changes.

The folder is looked at a few times a second: a code folder is small, and this works on every file system, which a
library for the kernel's notices would not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

LOOK_SECONDS = 0.1
# An editor or a checkout writes several files; the job starts once they have been left alone for this long.
SETTLE_SECONDS = 0.2
# What a job that nobody waits for is given to end.
GRACE_SECONDS = 0.2
IGNORED = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache"})

Snapshot = frozenset[tuple[str, int, int]]


class Started(Protocol):
    """A job that runs."""

    def stop(self) -> None:
        """Stop it, and return when it has ended. Fine if it has ended already."""


def look(folder: Path) -> Snapshot:
    """Every file of the code with its time and size; caches and hidden files are no code."""
    seen = set()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED]
        for name in files:
            if name.startswith(".") or name.endswith((".pyc", "~")):
                continue
            path = Path(parent, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # being written in this moment
            seen.add((str(path), status.st_mtime_ns, status.st_size))
    return frozenset(seen)


def train_again_on_change(code: Path, start: Callable[[int], Started]) -> None:
    """Start a job, and stop it and start another one after each change of ``code``, until KeyboardInterrupt.

    Args:
        code: the folder to look at.
        start: starts the job of this number, counted from 1.
    """
    pause = threading.Event()
    number = 0
    while True:
        number += 1
        seen = look(code)
        job = start(number)
        try:
            while (changed := look(code)) == seen:
                pause.wait(LOOK_SECONDS)
            while (settled := _after_a_while(code, pause)) != changed:
                changed = settled
        finally:
            job.stop()


def _after_a_while(code: Path, pause: threading.Event) -> Snapshot:
    pause.wait(SETTLE_SECONDS)
    return look(code)

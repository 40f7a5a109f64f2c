"""Training again whenever the code changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from local_sagemaker.code_folder import Snapshot, look

LOOK_SECONDS = 0.1
# An editor or a checkout writes several files; the job starts once they have been left alone for this long.
SETTLE_SECONDS = 0.2
# What a job that nobody waits for is given to end.
GRACE_SECONDS = 0.2


class Started(Protocol):
    """A job that runs."""

    def stop(self) -> None:
        """Stop it, and return when it has ended. Fine if it has ended already."""


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

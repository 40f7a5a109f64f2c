"""The standard error of several ranks that share one log: whole lines, in turn."""

import fcntl
import os
import select
from pathlib import Path

from sagemaker_byoc.stderr_tail import PIPE_BYTES, StderrTail

HOLD_SECONDS = 0.2
LONGEST_LINE = 8 * 1024 * 1024  # a longer one is passed on in pieces


class LinePump(StderrTail):
    """A StderrTail for one of several ranks that share a log: only whole lines are passed on, so that none is torn.

    A line without its end, a progress bar say, is passed on after 0.2 seconds. The ranks of a host take turns by a lock
    on the file `turns`, each with a descriptor of its own, for a pipe takes no more than 4 KiB in one piece.
    """

    def __init__(self, source: int, sink: int, turns: Path) -> None:
        super().__init__(source, sink)
        self._turns = os.open(turns, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def run(self) -> None:
        pending = bytearray()
        while True:
            if pending and not select.select([self._source], [], [], HOLD_SECONDS)[0]:
                self._pass_on_lines(pending, len(pending))
                continue
            chunk = self._read()
            if not chunk:
                break
            self._remember(chunk)
            pending += chunk
            whole = pending.rfind(b"\n") + 1
            self._pass_on_lines(pending, whole if len(pending) - whole < LONGEST_LINE else len(pending))
        self._pass_on_lines(pending, len(pending))

    def _pass_on_lines(self, pending: bytearray, size: int) -> None:
        """Write `size` bytes in pieces that end where a line ends and that a pipe takes whole."""
        start = 0
        while start < size:
            end = min(start + PIPE_BYTES, size)
            if end < size:
                newline = pending.rfind(b"\n", start, end)
                end = newline + 1 if newline >= 0 else pending.find(b"\n", start, size) + 1 or size
            self._pass_on_whole(bytes(pending[start:end]))
            start = end
        del pending[:size]

    def _pass_on_whole(self, piece: bytes) -> None:
        fcntl.flock(self._turns, fcntl.LOCK_EX)
        try:
            self._pass_on(piece)
        finally:
            fcntl.flock(self._turns, fcntl.LOCK_UN)

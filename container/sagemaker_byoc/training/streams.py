"""A child's output on its way to the log: passed on byte for byte, its end remembered for the failure reason."""

import fcntl
import os
import select
import threading
import time
from pathlib import Path

TAIL_BYTES = 64 * 1024
PIPE_BYTES = select.PIPE_BUF  # what one write puts into a pipe in one piece
HOLD_SECONDS = 0.2
GATHER_SECONDS = 0.002
LONGEST_LINE = 8 * 1024 * 1024  # a longer one is passed on in pieces
_CLOSE_SECONDS = 2.0
_TRACEBACK = b"Traceback (most recent call last)"


class StderrTail(threading.Thread):
    """Passes a child's standard error on byte for byte and remembers its last 64 KiB for the failure reason."""

    def __init__(self, source: int, sink: int) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._sink = sink
        self._tail = bytearray()
        self._was_small = False
        self.traceback_at: float | None = None  # seconds since the epoch

    def run(self) -> None:
        while chunk := self._read():
            self._remember(chunk)
            self._pass_on(chunk)

    def _read(self) -> bytes:
        """The next bytes; what was written in small pieces is gathered for a moment, which saves most of the work."""
        if self._was_small:
            time.sleep(GATHER_SECONDS)
        chunk = os.read(self._source, 65536)
        self._was_small = len(chunk) < PIPE_BYTES
        return chunk

    def tail(self) -> bytes:
        """The last bytes, once the pipe is closed; a process left behind that holds it open is not waited for."""
        self.join(_CLOSE_SECONDS)
        return bytes(self._tail[-TAIL_BYTES:])

    def _remember(self, chunk: bytes) -> None:
        if _TRACEBACK in bytes(self._tail[-len(_TRACEBACK) :]) + chunk:
            self.traceback_at = time.time()
        self._tail += chunk
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def _pass_on(self, chunk: bytes | memoryview) -> None:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._sink, view) :]
            except OSError:
                return  # nobody reads our standard error any more; the script must not stop for that


class LinePump(StderrTail):
    """The same for one of several ranks that share a log: only whole lines are passed on, so that none is torn.

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

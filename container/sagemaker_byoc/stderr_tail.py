"""A child's standard error on its way to the log: passed on byte for byte, its end remembered for the reason."""

import os
import select
import threading
import time

TAIL_BYTES = 64 * 1024
PIPE_BYTES = select.PIPE_BUF  # what one write puts into a pipe in one piece
GATHER_SECONDS = 0.002
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

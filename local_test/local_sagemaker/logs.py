"""Where a container's output goes: byte for byte to a stream and a file, with the last lines kept for messages."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

LAST_BYTES = 16384


class LogPump:
    """Copies chunks to the given streams in a thread of its own until they end."""

    def __init__(self, chunks: Iterable[bytes], file: Path | None, stream: BinaryIO | None) -> None:
        self._chunks = chunks
        self._file = file
        self._stream = stream
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._thread = threading.Thread(target=self._run, name="log-pump", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        file = self._file.open("wb", buffering=0) if self._file else None
        try:
            for chunk in self._chunks:
                if file:
                    file.write(chunk)
                self._show(chunk)
                self._keep(chunk)
        finally:
            if file:
                file.close()

    def _show(self, chunk: bytes) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(chunk)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None  # the reader went away (`byoc train | head`); the job and its log file go on

    def _keep(self, chunk: bytes) -> None:
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        while self._kept_bytes - len(self._kept[0]) > LAST_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def join(self, timeout: float) -> None:
        """Wait until the log has ended, ``timeout`` seconds at most."""
        self._thread.join(timeout)

    def last_lines(self, count: int = 20) -> str:
        """The last lines so far, for an error message."""
        text = b"".join(tuple(self._kept)).decode(errors="replace")
        return "\n".join(text.splitlines()[-count:])

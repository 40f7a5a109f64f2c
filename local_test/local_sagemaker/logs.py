"""Where a container's output goes: byte for byte to a stream and a file, with the last lines kept for messages.

The output of several hosts meets in one stream and one file, each line whole and behind the name of its host.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from local_sagemaker.engines.base import Chunk

LAST_BYTES = 16384
# A line that is longer is cut here, so that a host that never ends a line cannot fill this machine's memory.
LONGEST_LINE_BYTES = 256 * 1024


class Sink(Protocol):
    """Takes a container's output, chunk by chunk."""

    def write(self, chunk: Chunk) -> None:
        """Take one chunk."""

    def end(self) -> None:
        """Know that no more will come."""


class StreamSink:
    """Writes every byte at once to a stream that a person reads."""

    def __init__(self, stream: BinaryIO | None) -> None:
        self._stream = stream

    def write(self, chunk: Chunk) -> None:
        """Show the chunk as it is."""
        self.show(chunk.data)

    def show(self, data: bytes) -> None:
        """Show some bytes, unless the reader went away (``byoc train | head``); the job and its log file go on."""
        if self._stream is None:
            return
        try:
            self._stream.write(data)
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._stream = None

    def end(self) -> None:
        """Nothing is held back."""


class CommonLog:
    """One file and one stream for the lines of all hosts; a context that closes the file at its end."""

    def __init__(self, file: Path, stream: BinaryIO | None, hosts: Iterable[str]) -> None:
        self._file = file.open("wb", buffering=0)
        self._shown = StreamSink(stream)
        self._width = max(map(len, hosts))
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Nothing more to open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; what a host still writes is no longer wanted."""
        with self._lock:
            self._file.close()

    def sink(self, host: str) -> Lines:
        """Where the output of ``host`` goes: its name stands before each of its lines."""
        prefix = f"{host:{self._width}} | ".encode()
        return Lines(lambda lines: self.write(b"".join(prefix + line + b"\n" for line in lines)))

    def write(self, lines: bytes) -> None:
        """Write whole lines, of one host at a time."""
        with self._lock:
            if not self._file.closed:
                self._file.write(lines)
                self._shown.show(lines)


class Lines:
    """Cuts a host's output into lines; standard output and standard error are told apart.

    Args:
        take: gets the lines that are complete, without their ends.
    """

    def __init__(self, take: Callable[[Sequence[bytes]], object]) -> None:
        self._take = take
        self._begun: dict[str, bytes] = {}

    def write(self, chunk: Chunk) -> None:
        """Hand on the lines that are complete, and keep the one that is not."""
        *whole, begun = (self._begun.get(chunk.stream, b"") + chunk.data).split(b"\n")
        if len(begun) > LONGEST_LINE_BYTES:
            whole, begun = [*whole, begun], b""
        self._begun[chunk.stream] = begun
        if whole:
            self._take(whole)

    def end(self) -> None:
        """Hand on the last lines of a host that did not end them."""
        for line in filter(None, self._begun.values()):
            self._take((line,))
        self._begun.clear()


class LogPump:
    """Copies chunks to the given file and sink in a thread of its own until they end.

    Attributes:
        error: what kept the rest of them from being written or read; None if nothing has.
    """

    def __init__(self, chunks: Iterable[Chunk], file: Path | None, sink: Sink) -> None:
        self._chunks = chunks
        self._file = file
        self._sink = sink
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._seen_bytes = 0
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="log-pump", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._file.open("wb", buffering=0) if self._file else nullcontext() as file:
                for chunk in self._chunks:
                    self._take(chunk, file)
        except Exception as error:  # noqa: BLE001 - the engine went away; how the container ends is told elsewhere
            self.error = self.error or error
        finally:
            self._sink.end()

    def _take(self, chunk: Chunk, file: FileIO | None) -> None:
        if self.error is None:
            try:
                if file:
                    file.write(chunk.data)
                self._sink.write(chunk)
            except OSError as error:  # the disk is full; a container whose output nobody reads would be held up
                self.error = error
        self._keep(chunk.data)
        self._seen_bytes += len(chunk.data)

    def _keep(self, data: bytes) -> None:
        self._kept.append(data)
        self._kept_bytes += len(data)
        while self._kept_bytes - len(self._kept[0]) > LAST_BYTES:
            self._kept_bytes -= len(self._kept.popleft())

    def join(self, timeout: float) -> None:
        """Wait until the log has ended, or nothing more of it has come for ``timeout`` seconds."""
        seen = -1
        while self._thread.is_alive() and self._seen_bytes != seen:
            seen = self._seen_bytes
            self._thread.join(timeout)

    def last_lines(self, count: int = 20) -> str:
        """The last lines so far, for an error message."""
        text = b"".join(tuple(self._kept)).decode(errors="replace")
        return "\n".join(text.splitlines()[-count:])

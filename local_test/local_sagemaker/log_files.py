"""The logs that a resource's containers left in its directory: which there are, their last lines, and what is added."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.errors import UsageError

POLL_SECONDS = 0.1
CHUNK_BYTES = 1 << 20
NAMES = ("logs.txt", "*.log")


@dataclass(frozen=True)
class LogFile:
    """One log; ``host`` is empty where it is that of all hosts together."""

    host: str
    path: Path


def find_logs(directory: Path, host: str | None = None) -> list[LogFile]:
    """The logs below a resource's directory: the common one where there is one, else one for each host.

    Raises:
        UsageError: if ``host`` has none; the message names those that have.
    """
    common = directory / "logs.txt"
    found = [LogFile(_host_of(path, directory), path) for name in NAMES for path in sorted(directory.rglob(name))]
    if host is None:
        return [LogFile("", common)] if common.is_file() else [one for one in found if one.host]
    chosen = [one for one in found if host in {one.host, one.path.parent.name, one.path.stem}]
    if not chosen and common.is_file() and len(found) == 1 and host == "algo-1":
        return [LogFile("", common)]  # a job with one host
    if not chosen:
        raise UsageError(
            f"there is no log of {host} below {directory}",
            f"there are logs of {', '.join(one.host or 'all' for one in found) or 'nobody'}",
            "name one of them, or leave out --host",
        )
    return chosen


@dataclass
class Follower:
    """Copies what is added to logs, and new logs that appear; lines of several hosts stand behind their names."""

    directory: Path
    host: str | None
    output: BinaryIO
    tail: int | None = None
    positions: dict[Path, int] = field(default_factory=dict)
    begun: dict[Path, bytes] = field(default_factory=dict)

    def copy(self) -> None:
        """Copy what there is now."""
        logs = find_logs(self.directory, self.host)
        for log in logs:
            prefix = f"{log.host} | ".encode() if log.host and len(logs) > 1 else b""
            self._copy_one(log.path, prefix)
        self.output.flush()

    def finish(self) -> None:
        """Copy what there is, and the lines that nobody ended."""
        self.copy()
        for path, rest in self.begun.items():
            self._copy_rest(path, rest)
        self.output.flush()

    def follow(self, has_ended: Callable[[], bool]) -> None:
        """Copy until ``has_ended``, and once more then."""
        while not has_ended():
            with suppress(UsageError):  # the host's log may yet appear
                self.copy()
            time.sleep(POLL_SECONDS)
        self.finish()

    def _copy_rest(self, path: Path, rest: bytes) -> None:
        if rest:
            self.output.write(f"{_host_of(path, self.directory)} | ".encode() + rest + b"\n")
        self.begun[path] = b""

    def _copy_one(self, path: Path, prefix: bytes) -> None:
        with path.open("rb") as file:
            if path not in self.positions:
                self.positions[path] = 0 if self.tail is None else _start_of_last_lines(file, self.tail)
            file.seek(self.positions[path])
            while chunk := file.read(CHUNK_BYTES):
                self.output.write(chunk if not prefix else self._whole_lines(path, prefix, chunk))
            self.positions[path] = file.tell()

    def _whole_lines(self, path: Path, prefix: bytes, chunk: bytes) -> bytes:
        *whole, rest = (self.begun.get(path, b"") + chunk).split(b"\n")
        self.begun[path] = rest
        return b"".join(prefix + line + b"\n" for line in whole)


def _host_of(path: Path, directory: Path) -> str:
    parts = path.relative_to(directory).parts
    if parts == ("logs.txt",):
        return ""
    return path.parent.name if path.name == "logs.txt" else "/".join(parts[1:] or parts).removesuffix(".log")


def _start_of_last_lines(file: BinaryIO, count: int) -> int:
    """Where the last ``count`` lines begin; the file is read from its end."""
    end = position = file.seek(0, 2)
    if count == 0:
        return end
    found = 0
    while position > 0:
        start = max(0, position - CHUNK_BYTES)
        file.seek(start)
        chunk = file.read(position - start)
        for place in _newlines_from_the_end(chunk):
            if start + place + 1 < end:
                found += 1
                if found == count:
                    return start + place + 1
        position = start
    return 0


def _newlines_from_the_end(chunk: bytes) -> Iterator[int]:
    place = chunk.rfind(b"\n")
    while place >= 0:
        yield place
        place = chunk.rfind(b"\n", 0, place)

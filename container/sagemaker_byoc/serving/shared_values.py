"""Numbers of one process in a file that every process can read, as prometheus-client keeps them when there are several.

The file is one that the library itself could have written, so it is the library that adds up the workers and writes the
text. The numbers are changed here because an increment of the library's costs two calls, a lock and a packed string for
each number, and a request changes a dozen. Like the library's they are in shared memory: a process that is killed takes
nothing with it.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOM = 1 << 22  # bytes of the file; those that are not used take no memory
PAGE = mmap.PAGESIZE
LENGTH = struct.Struct("=i")
FIRST = 8  # bytes before the first entry: how many bytes are used, and padding
NUMBER = 8  # bytes of a double; each value has a time behind it
LOST = ROOM // NUMBER - 1  # the index of a number that nobody reads


class SharedValues:
    """One file of numbers: `numbers[index]` is one of them, for this process to change.

    What the file's last writer left goes on. Raises OSError where there is no room for the file; where room ends
    later, further samples are not kept.
    """

    def __init__(self, path: Path | None) -> None:
        """A file at the path; None: numbers for nobody else."""
        self._file = -1 if path is None else _open(path)
        self._map = mmap.mmap(self._file, ROOM)
        self.numbers = memoryview(self._map).cast("d")
        self._indexes = dict(_entries(self._map))

    def index(self, metric: str, sample: str, labels: Mapping[str, str], text: str) -> int:
        """Where the sample's number is; a new one is 0. For one thread at a time."""
        key = json.dumps([metric, sample, dict(labels), text], sort_keys=True).encode()
        if key not in self._indexes:
            try:
                self._indexes[key] = self._append(key)
            except OSError:
                return LOST
        return self._indexes[key]

    def close(self) -> None:
        self.numbers.release()
        self._map.close()
        if self._file >= 0:
            os.close(self._file)

    def _append(self, key: bytes) -> int:
        start = max(FIRST, _used(self._map))
        entry = LENGTH.pack(len(key)) + key + b" " * _padding(len(key)) + bytes(2 * NUMBER)
        end = start + len(entry)
        if end > ROOM - PAGE:
            raise OSError("too many samples")
        if self._file >= 0:
            os.posix_fallocate(self._file, start, len(entry))  # a page without memory behind it would kill the process
        self._map[start:end] = entry
        self._map[: LENGTH.size] = LENGTH.pack(end)  # last, so that a reader never sees half an entry
        return end // NUMBER - 2


def _open(path: Path) -> int:
    """Make or open the file. Others never see it without its first page."""
    if not path.exists():
        unfinished = path.with_suffix(".new")
        _reserve(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        unfinished.rename(path)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _reserve(file: int) -> None:
    """Memory for the first page and for the lost number's, and an end of the file beyond all that will be used."""
    try:
        os.posix_fallocate(file, 0, PAGE)
        os.posix_fallocate(file, ROOM - PAGE, PAGE)
        os.pwrite(file, LENGTH.pack(FIRST), 0)
    finally:
        os.close(file)


def _entries(data: mmap.mmap) -> Iterator[tuple[bytes, int]]:
    """Each key with its number's index."""
    start, used = FIRST, _used(data)
    while start < used:
        (length,) = LENGTH.unpack_from(data, start)
        key = data[start + LENGTH.size : start + LENGTH.size + length]
        start += LENGTH.size + length + _padding(length)
        yield key, start // NUMBER
        start += 2 * NUMBER


def _padding(length: int) -> int:
    """Spaces behind a key, so that its number begins at a multiple of 8."""
    return NUMBER - (LENGTH.size + length) % NUMBER


def _used(data: mmap.mmap) -> int:
    return int(LENGTH.unpack_from(data)[0])

"""A number for each living worker, so that the files of metrics are as many as workers and not as many as restarts.

A worker holds the lock of the lowest free number; the kernel lets go of it when the worker ends, however it ends. The
next worker then goes on with the number and its files. Two workers of one slot, as during a reload, have two numbers.
"""

import fcntl
import itertools
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Writer:
    """A worker's number, and who has it."""

    number: int
    pid: int
    slot: int


def take(folder: Path, slot: int) -> Writer:
    """The lowest number that no living worker has, held until this process ends. Raises OSError for a bad folder."""
    for number in itertools.count():
        file = os.open(folder / f"worker-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        os.pwrite(file, f"{os.getpid():>10} {slot:>10}".encode(), 0)  # of one width: a reader never sees half of it
        _remove_gauges(folder, number)
        return Writer(number, os.getpid(), slot)
    raise AssertionError("numbers do not end")


def living(folder: Path) -> list[Writer]:
    """The workers that are alive. The gauges of those that are not are removed."""
    writers = []
    for path in sorted(folder.glob("worker-*.lock")):
        writer = _writer(path)
        if writer is not None:
            writers.append(writer)
    return writers


def _writer(path: Path) -> Writer | None:
    """Who holds the lock and lives. A process that a dead worker has forked may still hold it."""
    number = int(path.stem.removeprefix("worker-"))
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.pread(file, 64, 0).split()
            if len(words) < 2:  # it has just been taken
                return None
            if Path("/proc", words[0].decode()).exists():
                return Writer(number, int(words[0]), int(words[1]))
        _remove_gauges(path.parent, number)
    finally:
        os.close(file)
    return None


def _remove_gauges(folder: Path, number: int) -> None:
    """What was true of a worker that is no more."""
    for path in folder.glob(f"gauge_*_writer-{number}.db"):
        path.unlink(missing_ok=True)

"""The output of one object: answers put in the order of its records, under the final name only when all are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from local_sagemaker.transform.failure import ObjectFailed

WRITTEN_BYTES = 1 << 20


class Output:
    """One object's output; a file of its own until it is complete.

    Args:
        partial: where it is written.
        by_line: whether each answer ends with a newline, which is added where it has none.
        commit: called with the complete file.
    """

    def __init__(self, partial: Path, by_line: bool, commit: Callable[[Path], None]) -> None:
        self._partial = partial
        self._by_line = by_line
        self._commit = commit
        self._file: BinaryIO | None = None
        self._early: dict[int, Sequence[bytes]] = {}
        self._next = 0
        self._total: int | None = None
        self.failure: ObjectFailed | None = None
        self.early_bytes = 0
        self.is_committed = False

    def open(self) -> BinaryIO:
        """The file that is written."""
        if self._file is None:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("w+b", buffering=WRITTEN_BYTES)
        return self._file

    def end_line(self) -> None:
        """Add the newline that an answer lacks which was written as it came."""
        file = self.open()
        if not self._by_line or file.tell() == 0:
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")

    def put(self, number: int, pieces: Sequence[bytes]) -> None:
        """Take the answer to the mini-batch ``number``, in any pieces; answers may come in any order."""
        if self.failure is not None:
            return
        if number != self._next:
            self._early[number] = pieces
            self.early_bytes += sum(map(len, pieces))
            return
        self._write(pieces)
        while self._early and (held := self._early.pop(self._next, None)) is not None:
            self.early_bytes -= sum(map(len, held))
            self._write(held)
        self._commit_if_complete()

    def end(self, total: int) -> None:
        """Know how many answers there will be."""
        self._total = total
        self._commit_if_complete()

    def fail(self, failure: ObjectFailed) -> None:
        """Give the output up; the first reason stays."""
        if self.failure is None:
            self.failure = failure
            self.abandon()

    def abandon(self) -> None:
        """Remove what is written so far, unless it is committed."""
        self._early.clear()
        self.early_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None
        self._partial.unlink(missing_ok=True)

    def _write(self, pieces: Sequence[bytes]) -> None:
        file = self.open()
        last = b""
        for piece in pieces:
            file.write(piece)
            last = piece or last
        if self._by_line and last and not last.endswith(b"\n"):
            file.write(b"\n")
        self._next += 1

    def _commit_if_complete(self) -> None:
        if self.failure is not None or self.is_committed or self._next != self._total:
            return
        self.open().close()
        self._commit(self._partial)
        self._file = None
        self._partial.unlink(missing_ok=True)
        self.is_committed = True

"""Who gets an exchange's answer: a client's connection, a file, or nobody."""

from __future__ import annotations

import asyncio
from typing import BinaryIO, Protocol

from local_sagemaker.hosting.container_connection import Fields
from local_sagemaker.hosting.invocation_errors import InvocationError


class Reply(Protocol):
    """Told of one answer: ``answer``, or ``begin``, ``chunk``s and ``end``, or ``refuse``."""

    def answer(self, variant: bytes, status: int, fields: Fields, body: bytes) -> None:
        """The whole answer."""

    def begin(self, variant: bytes, status: int, fields: Fields) -> None:
        """The answer comes in parts."""

    def chunk(self, data: bytes) -> bool:
        """A part; False asks for a pause."""

    def end(self) -> None:
        """The last part has been given."""

    def refuse(self, error: InvocationError) -> None:
        """No answer, or no more of it."""


class NoReply:
    """Drops the answer: a shadow variant's."""

    def answer(self, variant: bytes, status: int, fields: Fields, body: bytes) -> None:
        """Nobody wants it."""

    def begin(self, variant: bytes, status: int, fields: Fields) -> None:
        """Nobody wants it."""

    def chunk(self, data: bytes) -> bool:  # noqa: ARG002 - a Reply's
        """Go on."""
        return True

    def end(self) -> None:
        """Nobody waits."""

    def refuse(self, error: InvocationError) -> None:
        """Nobody is told; the counter knows."""


class FileReply:
    """Writes the answer's body to a file; ``result`` gets the status, the fields and the variant."""

    def __init__(self, file: BinaryIO, result: asyncio.Future[tuple[int, Fields, bytes]]) -> None:
        self._file = file
        self._result = result
        self._head: tuple[int, Fields, bytes] | None = None

    def answer(self, variant: bytes, status: int, fields: Fields, body: bytes) -> None:
        """Write it at once."""
        self.begin(variant, status, fields)
        self.chunk(body)
        self.end()

    def begin(self, variant: bytes, status: int, fields: Fields) -> None:
        """Keep what is not the body."""
        self._head = (status, fields, variant)

    def chunk(self, data: bytes) -> bool:
        """Write a part; a disk that is full ends the exchange."""
        try:
            self._file.write(data)
        except OSError as error:
            if not self._result.done():
                self._result.set_exception(error)
        return True

    def end(self) -> None:
        """All is written."""
        if not self._result.done() and self._head is not None:
            self._result.set_result(self._head)

    def refuse(self, error: InvocationError) -> None:
        """Raise it where the answer is awaited."""
        if not self._result.done():
            self._result.set_exception(error)

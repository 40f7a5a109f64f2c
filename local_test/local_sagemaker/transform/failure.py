"""Why one object of a transform job has no output; the others are transformed all the same."""

from __future__ import annotations

from typing import Literal

Blame = Literal["ClientError", "AlgorithmError"]


class ObjectFailed(Exception):
    """An object, or some of its records, cannot be transformed.

    Args:
        what: what is wrong, to stand behind the object's address.
        blame: ClientError for what the user asked or gave, AlgorithmError for what the container did.
    """

    def __init__(self, what: str, blame: Blame = "ClientError") -> None:
        self.what = what
        self.blame = blame
        super().__init__(what)


def records_in_words(first: int, count: int) -> str:
    """``record 7`` or ``records 7 to 9``; the first record of an object has the number 1."""
    return f"record {first}" if count == 1 else f"records {first} to {first + count - 1}"

"""Answers that leave piece by piece, as an iterator makes them.

The first piece is made before the answer begins, so that an error in it still has a status of its own. An error later
breaks the connection, which is how the platform knows that a stream is not whole.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sagemaker_byoc.errors import HandlerError
from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.exchange import Answer
from sagemaker_byoc.serving.handlers import Handler

EVENT_STREAM = "text/event-stream"
TEXT = "text/plain; charset=utf-8"
OCTET_STREAM = "application/octet-stream"


class Watched(Iterator[bytes]):
    """A stream that says when it is over: at its end, at an error, or because nobody takes any more of it."""

    def __init__(self, pieces: Iterable[bytes], over: Callable[[int], None]) -> None:
        self._pieces: Iterator[bytes] | None = iter(pieces)
        self._over = over
        self._sent = 0

    def __next__(self) -> bytes:
        if self._pieces is None:
            raise StopIteration
        try:
            piece = next(self._pieces)
        except BaseException:
            self.close()
            raise
        self._sent += len(piece)
        return piece

    def close(self) -> None:
        """Let go of the iterator behind it, and tell how many bytes it gave."""
        if self._pieces is not None:
            self._pieces = None
            self._over(self._sent)

    def __del__(self) -> None:
        self.close()


def stream_pieces(pieces: Iterator[Any], handler: Handler) -> Iterator[bytes]:
    """Text or bytes as they come. Raises HandlerError for the first piece; later errors are logged and raised."""
    started = _as_bytes(pieces, handler)
    first = list(itertools.islice(started, 1))
    return itertools.chain(first, started)


def stream_values(values: Iterator[Any], accept: str, handler: Handler) -> Answer:
    """What a predict_fn yields: each an event of a text/event-stream where that is accepted; else text and bytes as
    they come, and other values each as a line of JSON.
    """
    if any(media_type.name == EVENT_STREAM for media_type in codecs.parse_accept(accept)):
        encode, content_type = event, EVENT_STREAM
    else:
        encode, content_type = line, ""
    explained = _explained(values, handler)
    first = list(itertools.islice(explained, 1))
    content_type = content_type or plain_type(first)
    pieces = (encode(value) for value in itertools.chain(first, explained))
    return Answer(pieces, content_type)


def plain_type(first: list[Any]) -> str:
    """The content type of a stream that begins so."""
    if first and isinstance(first[0], str):
        return TEXT
    return OCTET_STREAM if first and isinstance(first[0], bytes) else codecs.JSON_LINES


def line(value: Any) -> bytes:
    """A value as a line of JSON; text and bytes as they are."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else codecs.encode(value, codecs.JSON)[0] + b"\n"


def event(value: Any) -> bytes:
    """A value as a server-sent event."""
    text = value if isinstance(value, bytes) else line(value)
    return b"".join(b"data: " + part + b"\n" for part in text.splitlines() or [b""]) + b"\n"


def _as_bytes(pieces: Iterator[Any], handler: Handler) -> Iterator[bytes]:
    for piece in _explained(pieces, handler):
        yield as_bytes(piece, handler)


def as_bytes(piece: Any, handler: Handler) -> bytes:
    """A piece of what output_fn or transform_fn yields. Raises HandlerError for what is none."""
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise HandlerError(f"{handler.name} yielded a {type(piece).__name__}; expected pieces of bytes or str.")


def _explained(values: Iterator[Any], handler: Handler) -> Iterator[Any]:
    """What an iterator of the user's yields; what it raises is explained as an error of the function that made it."""
    while True:
        try:
            value = next(values)
        except StopIteration:
            return
        except HandlerError:
            raise
        except BaseException as error:
            raise handler.explain(error) from error
        yield value

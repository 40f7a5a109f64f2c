"""Answers that leave piece by piece, as an iterator makes them.

The first piece is made before the answer begins, so that an error in it still has a status of its own. An error later
breaks the connection, which is how the platform knows that a stream is not whole.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from sagemaker_byoc.errors import HandlerError
from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.exchange import Answer
from sagemaker_byoc.serving.handlers import Handler

EVENT_STREAM = "text/event-stream"
TEXT = "text/plain; charset=utf-8"
OCTET_STREAM = "application/octet-stream"


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
        encode, content_type = _event, EVENT_STREAM
    else:
        encode, content_type = _line, ""
    explained = _explained(values, handler)
    first = list(itertools.islice(explained, 1))
    content_type = content_type or _plain_type(first)
    pieces = (encode(value) for value in itertools.chain(first, explained))
    return Answer(pieces, content_type)


def _plain_type(first: list[Any]) -> str:
    if first and isinstance(first[0], str):
        return TEXT
    return OCTET_STREAM if first and isinstance(first[0], bytes) else codecs.JSON_LINES


def _line(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else codecs.encode(value, codecs.JSON)[0] + b"\n"


def _event(value: Any) -> bytes:
    text = value if isinstance(value, bytes) else _line(value)
    return b"".join(b"data: " + part + b"\n" for part in text.splitlines() or [b""]) + b"\n"


def _as_bytes(pieces: Iterator[Any], handler: Handler) -> Iterator[bytes]:
    for piece in _explained(pieces, handler):
        if isinstance(piece, str):
            yield piece.encode()
        elif isinstance(piece, bytes | bytearray | memoryview):
            yield bytes(piece)
        else:
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
        except (Exception, SystemExit) as error:
            raise handler.explain(error) from error
        yield value

"""Bodies that are the value: bytes and text as they came."""

from typing import Any

from sagemaker_byoc.serving.codecs.plain import as_plain
from sagemaker_byoc.serving.codecs.reading import as_text


def read_bytes(body: bytes, _charset: str, _limit: int) -> bytes:
    """The body."""
    return body


def read_text(body: bytes, charset: str, _limit: int) -> str:
    """The body as text. Raises MalformedBody."""
    return as_text(body, charset, "text")


def write_bytes(value: Any) -> bytes:
    """Raises TypeError for what is not bytes."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("expected bytes")
    return bytes(value)


def write_text(value: Any) -> bytes:
    """Text, or a number. Raises TypeError for anything else."""
    plain = value if isinstance(value, str | int | float) else as_plain(value)
    if not isinstance(plain, str | int | float):
        raise TypeError("expected text")
    return str(plain).encode()

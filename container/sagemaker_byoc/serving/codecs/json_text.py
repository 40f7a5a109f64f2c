"""JSON and JSON Lines: read and written by orjson, and by the standard library where orjson would lose something."""

import json
import math
import sys
from typing import Any

import orjson

from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs.plain import as_plain, as_records
from sagemaker_byoc.serving.codecs.reading import as_text

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DIGITS_AS_ZEROS = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(256))
_LONG = b"0" * 19
# Every text, key, truth and null of a document brings one of these; numbers, NaN and Infinity have none.
_MARKS_OF_NO_NUMBERS = (b'"', b"u", b"l", b"{")


def read_json(body: bytes, charset: str, _limit: int) -> Any:
    """A document's value. Raises MalformedBody."""
    document = _as_utf8(body, charset, "JSON")
    try:
        value = _loads(document, _keeps_its_integers(document))
    except (ValueError, RecursionError) as error:
        raise MalformedBody(_wrong(document, "JSON", "", error)) from None
    return _numbers_as_array(value, document)


def read_json_lines(body: bytes, charset: str, _limit: int) -> Any:
    """The values of all lines. Raises MalformedBody that names the line."""
    documents = _as_utf8(body, charset, "JSON Lines")
    fast = _keeps_its_integers(documents)
    values = []
    for number, line in enumerate(documents.split(b"\n"), 1):
        if line and not line.isspace():
            try:
                values.append(_loads(line, fast))
            except (ValueError, RecursionError) as error:
                raise MalformedBody(_wrong(line, "JSON", f" on line {number}", error)) from None
    return _numbers_as_array(values, documents)


def write_json(value: Any) -> bytes:
    """A document. Raises TypeError or ValueError for a value that JSON cannot hold."""
    return _dumps(value, 0)


def write_json_lines(value: Any) -> bytes:
    """A line for each record."""
    return b"".join(_dumps(record, orjson.OPT_APPEND_NEWLINE) for record in as_records(value))


def _loads(document: bytes, fast: bool) -> Any:
    if fast:
        try:
            return orjson.loads(document)
        except orjson.JSONDecodeError:
            pass  # NaN, Infinity and lone surrogates, or an error that the standard library words better
    return json.loads(document.decode())


def _keeps_its_integers(document: bytes) -> bool:
    """Whether no integer is too long for orjson, which would make a float of it: 20 digits, or 19 below zero.

    Digits after a point do not count: floats are often written with so many.
    """
    digits = document.translate(_DIGITS_AS_ZEROS)
    at = digits.find(_LONG)
    while at >= 0:
        before, after = digits[at - 1 : at], digits[at + len(_LONG) : at + len(_LONG) + 1]
        if before == b"-" or (before != b"." and after == b"0"):
            return False
        at = digits.find(_LONG, at + len(_LONG))
    return True


def _as_utf8(body: bytes, charset: str, what: str) -> bytes:
    if charset != "utf-8":
        try:
            return as_text(body, charset, what).encode()
        except UnicodeEncodeError as error:
            raise MalformedBody(f"the body is not valid {what}: {error}.") from None
    return body.removeprefix(_BYTE_ORDER_MARK)


def _wrong(document: bytes, what: str, where: str, error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the body is not valid {what}{where}: not utf-8 at byte {error.start}."
    return f"the body is not valid {what}{where}: {error}." if document else f"the body is not valid {what}: empty."


def _numbers_as_array(value: Any, document: bytes) -> Any:
    """A rectangular list of numbers as an array, which is what models take; anything else unchanged."""
    # Looking for marks in the text is some twenty times cheaper than looking at each number.
    if type(value) is not list or any(mark in document for mark in _MARKS_OF_NO_NUMBERS):
        return value
    import numpy as np  # noqa: PLC0415 - not before numbers come: `serve` starts sooner

    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        return value  # rows of different lengths, or deeper than an array can be
    return array if array.dtype.kind in "if" else value


def _dumps(value: Any, options: int) -> bytes:
    if "numpy" in sys.modules:
        options |= orjson.OPT_SERIALIZE_NUMPY
    try:
        return orjson.dumps(value, as_plain, options)
    except orjson.JSONEncodeError:
        # Integers beyond 64 bits, keys that are no text, lone surrogates; what JSON cannot hold fails here again.
        return _dumps_slowly(value) + (b"\n" if options & orjson.OPT_APPEND_NEWLINE else b"")


def _dumps_slowly(value: Any) -> bytes:
    try:
        return json.dumps(value, default=as_plain, allow_nan=False).encode()
    except ValueError:
        # JSON has no NaN or infinity; null is what readers in every language can take.
        return json.dumps(_without_nan(json.loads(json.dumps(value, default=as_plain)))).encode()


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value

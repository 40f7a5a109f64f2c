"""Content types: one row each, with how a body becomes a value and a prediction becomes a body. Nothing is unpickled.

Numbers arrive as NumPy arrays, all else as plain Python values.
"""

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sagemaker_byoc.errors import HandlerError, MalformedBody, NotAcceptable, UnsupportedContentType

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
_UNWRITABLE = (TypeError, ValueError, RecursionError)


@dataclass(frozen=True)
class Codec:
    """One content type: `decode` takes a body and its charset, `encode` takes a prediction; `text` says that bodies
    are text in a charset.
    """

    content_type: str
    aliases: tuple[str, ...]
    decode: Callable[[bytes, str], Any]
    encode: Callable[[Any], bytes]


@dataclass(frozen=True)
class MediaType:
    """A content type without its parameters, and the parameters that matter here."""

    name: str
    charset: str = "utf-8"
    quality: float = 1.0


def decode(body: bytes | str, content_type: str) -> Any:
    """The value that a request body means. Raises UnsupportedContentType or MalformedBody."""
    media_type = parse_media_type(content_type)
    codec = find_codec(media_type.name)
    if codec is None:
        raise UnsupportedContentType(
            f"content type {content_type!r} is not understood; expected one of {known_types()}. "
            "Another type needs an input_fn in inference.py."
        )
    data = body.encode(media_type.charset) if isinstance(body, str) else bytes(body)
    if not data.strip():
        raise MalformedBody(f"the request body is empty; expected {codec.content_type}.")
    return codec.decode(data, media_type.charset)


def encode(value: Any, accept: str) -> tuple[bytes, str]:
    """A prediction as a body of the best type that an Accept header allows, and that type.

    Raises NotAcceptable, or HandlerError for a prediction that no type can hold.
    """
    codec = choose_codec(accept)
    try:
        return codec.encode(_plain_array(value)), codec.content_type
    except _UNWRITABLE as error:
        text = f"a prediction of type {type(value).__name__} cannot be written as {codec.content_type}: {error}."
        if any(_can_write(other, value) for other in CODECS):
            raise NotAcceptable(f"{text} Ask for another type, or define output_fn in inference.py.") from error
        raise HandlerError(f"{text} Return numbers, text, lists or dicts, or define output_fn.") from error


def _can_write(codec: Codec, value: Any) -> bool:
    try:
        codec.encode(_plain_array(value))
    except _UNWRITABLE:
        return False
    return True


def find_codec(name: str) -> Codec | None:
    """The codec of a content type without parameters, or None."""
    return next((codec for codec in CODECS if name == codec.content_type or name in codec.aliases), None)


def choose_codec(accept: str) -> Codec:
    """The codec that an Accept header likes best; JSON where it does not mind. Raises NotAcceptable."""
    refused = {media_type.name for media_type in _media_types(accept) if media_type.quality == 0}
    for media_type in parse_accept(accept):
        found = next((codec for codec in CODECS if _matches(codec, media_type.name, refused)), None)
        if found:
            return found
    raise NotAcceptable(
        f"Accept {accept!r} names no type that can be written; expected one of {known_types()}. "
        "Another type needs an output_fn in inference.py."
    )


def _matches(codec: Codec, pattern: str, refused: set[str]) -> bool:
    """Whether a type of an Accept header means this codec; a wildcard never means one that the header refuses."""
    names = {codec.content_type, *codec.aliases}
    if "*" not in pattern:
        return pattern in names
    return not names & refused and (pattern == "*/*" or codec.content_type.startswith(pattern.removesuffix("*")))


def known_types() -> str:
    """The content types, for people."""
    return ", ".join(codec.content_type for codec in CODECS)


def parse_media_type(header: str) -> MediaType:
    """`text/csv; charset=latin-1` in its parts; names are lower case. Raises MalformedBody for a charset unknown."""
    name, *parameters = (part.strip() for part in header.split(";"))
    charset, quality = "utf-8", 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        value = value.strip().strip('"')
        if key.strip().lower() == "charset" and value:
            charset = _known_charset(value)
        elif key.strip().lower() == "q":
            quality = _quality(value)
    return MediaType(name.lower(), charset, quality)


def parse_accept(header: str) -> list[MediaType]:
    """The types of an Accept header, best first; refused ones (q=0) are left out; an empty header is `*/*`."""
    return sorted((t for t in _media_types(header) if t.quality > 0), key=lambda t: -t.quality)


def _media_types(header: str) -> list[MediaType]:
    return [parse_media_type(part) for part in header.split(",") if part.strip()] or [MediaType("*/*")]


def _known_charset(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise MalformedBody(f"charset {name!r} is unknown; expected one that Python knows, such as utf-8.") from None
    return name


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0


def _text(body: bytes, charset: str, what: str) -> str:
    try:
        return body.decode(charset).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not valid {what}: not {charset} at byte {error.start}.") from None


def _decode_json(body: bytes, charset: str) -> Any:
    return _numbers_as_array(_parse_json(_text(body, charset, "JSON"), ""))


def _decode_json_lines(body: bytes, charset: str) -> Any:
    lines = _text(body, charset, "JSON Lines").split("\n")
    return _numbers_as_array([_parse_json(line, f" on line {n}") for n, line in enumerate(lines, 1) if line.strip()])


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the body is not valid JSON{where}: {error}.") from None


def _decode_csv(body: bytes, charset: str) -> Any:
    try:
        rows = [row for row in csv.reader(io.StringIO(_text(body, charset, "CSV"), newline=""), strict=True) if row]
    except csv.Error as error:
        raise MalformedBody(f"the body is not valid CSV: {error}.") from None
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise MalformedBody(
                f"the body is not valid CSV: row {number} has {len(row)} columns, row 1 has {len(rows[0])}."
            )
    fields = np.array([[field.strip() for field in row] for row in rows])
    for kind, missing in ((np.int64, ""), (np.float64, "nan")):
        try:
            return np.where(fields == "", missing, fields).astype(kind)
        except (ValueError, OverflowError):
            continue
    return rows


def _decode_npy(body: bytes, _charset: str) -> Any:
    try:
        # Not np.load: that would open a zip of arrays, or a pickle's error, as well.
        return np.lib.format.read_array(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError, TypeError) as error:
        raise MalformedBody(f"the body is not an NPY array that may be loaded: {error}.") from None


def _encode_json(value: Any) -> bytes:
    try:
        return json.dumps(value, default=_plain, allow_nan=False).encode()
    except ValueError:
        # JSON has no NaN or infinity; null is what readers in every language can take.
        return json.dumps(_without_nan(json.loads(json.dumps(value, default=_plain)))).encode()


def _encode_json_lines(value: Any) -> bytes:
    return b"".join(_encode_json(record) + b"\n" for record in _records(value))


def _encode_csv(value: Any) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for record in _records(value):
        plain = _plain(record) if hasattr(record, "tolist") else record
        row = plain if isinstance(plain, list | tuple) else [plain]
        strange = next((f for f in row if not isinstance(f, str | int | float | np.generic | None)), None)
        if strange is not None:
            raise TypeError(f"a CSV row holds text and numbers, not a {type(strange).__name__}")
        writer.writerow(row)
    return out.getvalue().encode()


def _encode_npy(value: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, np.asarray(value), allow_pickle=False)
    return out.getvalue()


def _records(value: Any) -> Iterable[Any]:
    """One record for each prediction: the rows of an array or list, else the value itself."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return value
    return value if isinstance(value, list | tuple) else [value]


def _plain_array(value: Any) -> Any:
    """A tensor of any framework as a NumPy array; other values as they are."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__array__"):
        return np.asarray(value)
    return value


def _plain(value: Any) -> Any:
    """NumPy values inside a structure as Python ones."""
    value = _plain_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _numbers_as_array(value: Any) -> Any:
    """A rectangular list of numbers as an array, which is what models take; anything else unchanged."""
    if not isinstance(value, list):
        return value
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        return value  # rows of different lengths, or deeper than an array can be
    if array.dtype.kind not in "if":
        return value
    leaves: Iterable[Any] = value
    for _ in range(array.ndim - 1):
        leaves = itertools.chain.from_iterable(leaves)
    return value if bool in set(map(type, leaves)) else array  # NumPy would make numbers of truths


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return value


CODECS = (
    Codec(JSON, ("text/json",), decode=_decode_json, encode=_encode_json),
    Codec(
        JSON_LINES,
        ("application/x-jsonlines", "application/x-ndjson", "application/jsonl", "application/ndjson"),
        decode=_decode_json_lines,
        encode=_encode_json_lines,
    ),
    Codec(CSV, ("application/csv",), decode=_decode_csv, encode=_encode_csv),
    Codec(NPY, ("application/npy", "application/x-numpy"), decode=_decode_npy, encode=_encode_npy),
)

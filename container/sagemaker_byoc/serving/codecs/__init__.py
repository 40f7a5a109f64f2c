"""Content types: one row each, with how a body becomes a value and a prediction becomes a body. Nothing is unpickled.

Numbers arrive as NumPy arrays, tables as they are, all else as plain Python values. A row's room, and the library that
it needs, is imported when its content type first comes.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sagemaker_byoc.errors import HandlerError, MalformedBody, NotAcceptable, UnsupportedContentType
from sagemaker_byoc.serving.codecs import json_text
from sagemaker_byoc.serving.codecs.media_types import MediaType, listed_types, parse_accept, parse_media_type
from sagemaker_byoc.serving.codecs.plain import as_array, as_plain, is_array
from sagemaker_byoc.serving.codecs.reading import DEFAULT_LIMIT

__all__ = [
    "ARROW_FILE",
    "ARROW_STREAM",
    "CODECS",
    "CSV",
    "DEFAULT_LIMIT",
    "JSON",
    "JSON_LINES",
    "NPY",
    "NPZ",
    "OCTET_STREAM",
    "PARQUET",
    "RECORDIO",
    "TEXT",
    "Codec",
    "MediaType",
    "choose_codec",
    "decode",
    "decode_plain",
    "encode",
    "find_codec",
    "is_empty",
    "known_types",
    "parse_accept",
    "parse_media_type",
    "writable_types",
]

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
NPY = "application/x-npy"
NPZ = "application/x-npz"
RECORDIO = "application/x-recordio-protobuf"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
ARROW_FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
TEXT = "text/plain"
OCTET_STREAM = "application/octet-stream"
_UNWRITABLE = (TypeError, ValueError, ArithmeticError, RuntimeError, ModuleNotFoundError)

Reader = Callable[[bytes, str, int], Any]
Writer = Callable[[Any], bytes]


@dataclass(frozen=True)
class Codec:
    """One content type: `decode` takes a body, its charset and the most bytes of memory that the value may take;
    `encode` takes a prediction, and is None for a type that is only read. `text` says that bodies are text.
    """

    content_type: str
    aliases: tuple[str, ...]
    decode: Reader
    encode: Writer | None = None
    text: bool = False


def decode(body: bytes | str, content_type: str, limit: int = DEFAULT_LIMIT) -> Any:
    """The value that a request body means, in at most `limit` bytes of memory.

    Raises UnsupportedContentType or MalformedBody.
    """
    codec, charset = _codec_of(content_type)
    data = body.encode(charset) if isinstance(body, str) else bytes(body)
    if is_empty(data, codec):
        raise MalformedBody(f"the request body is empty; expected {codec.content_type}.")
    try:
        return codec.decode(data, charset, limit)
    except ModuleNotFoundError as error:
        raise UnsupportedContentType(
            f"{codec.content_type} needs the package {_package(error)}, which this image does not have."
        ) from error


def decode_plain(body: bytes, content_type: str, limit: int = DEFAULT_LIMIT) -> Any:
    """The same without NumPy: numbers and tables as Python's own values, the fields of CSV as text."""
    codec, charset = _codec_of(content_type)
    if codec.content_type == CSV and not is_empty(body, codec):
        rows: list[list[str]] = _late("csv_text", "read_fields")(body, charset)
        return rows
    value = decode(body, content_type, limit)
    return as_plain(value) if is_array(value) or hasattr(value, "to_pylist") else value


def encode(value: Any, accept: str) -> tuple[bytes, str]:
    """A prediction as a body of the best type that an Accept header allows and that can hold it, and that type.

    Raises NotAcceptable, or HandlerError for a prediction that no type can hold.
    """
    first: Exception | None = None
    for codec in _choices(accept):
        try:
            return _written(codec, value), codec.content_type
        except _UNWRITABLE as error:
            first = first or error
    asked = choose_codec(accept).content_type
    reason = f"it needs the package {_package(first)}" if isinstance(first, ModuleNotFoundError) else first
    text = f"a prediction of type {type(value).__name__} cannot be written as {asked}: {reason}."
    if any(_can_write(_BY_NAME[name], value) for name in (JSON, NPY, OCTET_STREAM)):
        raise NotAcceptable(f"{text} Ask for another type, or define output_fn in inference.py.") from first
    raise HandlerError(f"{text} Return numbers, text, lists or dicts, or define output_fn.") from first


def _package(error: ModuleNotFoundError) -> str:
    """What has to be installed for a module that is missing."""
    module = (error.name or str(error)).partition(".")[0]
    return {"PIL": "pillow", "google": "protobuf"}.get(module, module)


def is_empty(body: bytes, codec: Codec) -> bool:
    """Whether a body has nothing to read; white space is nothing where bodies are text."""
    return not body or (codec.text and body.isspace())


def find_codec(name: str) -> Codec | None:
    """The codec of a content type without parameters, or None."""
    found = _BY_NAME.get(name)
    return found if found is not None else _BY_NAME.get(name.partition("/")[0] + "/*")


def choose_codec(accept: str) -> Codec:
    """The codec that an Accept header likes best; JSON where it does not mind. Raises NotAcceptable."""
    found = _choices(accept)
    if found:
        return found[0]
    raise NotAcceptable(
        f"Accept {accept!r} names no type that can be written; expected one of {writable_types()}. "
        "Another type needs an output_fn in inference.py."
    )


def known_types() -> str:
    """The content types of requests, for people."""
    return ", ".join(codec.content_type for codec in CODECS)


def writable_types() -> str:
    """The content types of answers, for people."""
    return ", ".join(codec.content_type for codec in CODECS if codec.encode)


@lru_cache(maxsize=256)
def _choices(accept: str) -> tuple[Codec, ...]:
    """The codecs that an Accept header allows, best first; a wildcard means its first type, and bytes as they are."""
    refused = {media_type.name for media_type in listed_types(accept) if media_type.quality == 0}
    found: dict[Codec, None] = {}
    for media_type in parse_accept(accept):
        if "*" in media_type.name:
            meant = [codec for codec in CODECS if codec.encode and _matches(codec, media_type.name, refused)]
            found.update(dict.fromkeys([*meant[:1], *(codec for codec in meant if codec.content_type == OCTET_STREAM)]))
        elif (codec := _BY_NAME.get(media_type.name)) and codec.encode:
            found[codec] = None
    return tuple(found)


def _codec_of(content_type: str) -> tuple[Codec, str]:
    media_type = parse_media_type(content_type)
    codec = find_codec(media_type.name)
    if codec is not None:
        return codec, media_type.charset
    said = f"content type {content_type!r} is not understood" if media_type.name else "there is no Content-Type"
    raise UnsupportedContentType(
        f"{said}; expected one of {known_types()}. Another type needs an input_fn in inference.py."
    )


def _matches(codec: Codec, pattern: str, refused: set[str]) -> bool:
    """Whether a wildcard means this codec; it never means one that the header refuses."""
    allowed = not refused & {codec.content_type, *codec.aliases}
    return allowed and (pattern == "*/*" or codec.content_type.startswith(pattern.removesuffix("*")))


def _written(codec: Codec, value: Any) -> bytes:
    if codec.encode is None:
        raise TypeError("it is only read")
    return codec.encode(as_array(value))


def _can_write(codec: Codec, value: Any) -> bool:
    try:
        _written(codec, value)
    except _UNWRITABLE:
        return False
    return True


def _late(room: str, function: str, *first: Any) -> Callable[..., Any]:
    """A function of a room that is imported, with the library that it needs, when it is first called."""

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{room}"), function)(*first, *arguments)

    return call


CODECS = (
    Codec(JSON, ("text/json",), json_text.read_json, json_text.write_json, text=True),
    Codec(
        JSON_LINES,
        ("application/x-jsonlines", "application/x-ndjson", "application/jsonl", "application/ndjson"),
        json_text.read_json_lines,
        json_text.write_json_lines,
        text=True,
    ),
    Codec(CSV, ("application/csv",), _late("csv_text", "read_csv"), _late("csv_text", "write_csv"), text=True),
    Codec(
        NPY,
        ("application/npy", "application/x-numpy"),
        _late("arrays", "read_npy"),
        _late("arrays", "write_npy"),
    ),
    Codec(NPZ, ("application/npz",), _late("arrays", "read_npz"), _late("arrays", "write_npz")),
    Codec(
        RECORDIO,
        ("application/recordio-protobuf",),
        _late("recordio", "read_recordio"),
        _late("recordio", "write_recordio"),
    ),
    Codec(
        ARROW_STREAM,
        (),
        _late("tables", "read_arrow_stream"),
        _late("tables", "write_arrow_stream"),
    ),
    Codec(ARROW_FILE, (), _late("tables", "read_arrow_file"), _late("tables", "write_arrow_file")),
    Codec(PARQUET, ("application/x-parquet",), _late("tables", "read_parquet"), _late("tables", "write_parquet")),
    Codec("image/png", (), _late("images", "read_image", "PNG"), _late("images", "write_png")),
    Codec("image/jpeg", ("image/jpg",), _late("images", "read_image", "JPEG")),
    Codec("image/webp", (), _late("images", "read_image", "WEBP")),
    Codec("image/gif", (), _late("images", "read_image", "GIF")),
    Codec("image/bmp", ("image/x-ms-bmp",), _late("images", "read_image", "BMP")),
    Codec(TEXT, (), _late("raw", "read_text"), _late("raw", "write_text"), text=True),
    Codec(OCTET_STREAM, (), _late("raw", "read_bytes"), _late("raw", "write_bytes")),
    Codec("audio/*", (), _late("raw", "read_bytes")),
    Codec("video/*", (), _late("raw", "read_bytes")),
)
_BY_NAME = {name: codec for codec in CODECS for name in (codec.content_type, *codec.aliases)}

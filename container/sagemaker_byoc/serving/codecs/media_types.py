"""The headers Content-Type and Accept: their parts, and which type is liked best."""

import codecs
import math
from dataclasses import dataclass
from functools import lru_cache

from sagemaker_byoc.errors import MalformedBody

# Python knows these as well, but they are no charset of a text: they run escapes, or take quadratic time.
_NO_CHARSETS = {
    "idna",
    "punycode",
    "undefined",
    "unicode_escape",
    "raw-unicode-escape",
    "unicode-escape",
    "mbcs",
    "oem",
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """A content type without its parameters, and the parameters that matter here."""

    name: str
    charset: str = "utf-8"
    quality: float = 1.0


# Headers come from strangers, so the caches are bounded; a client sends the same few over and over.
@lru_cache(maxsize=256)
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


@lru_cache(maxsize=256)
def parse_accept(header: str) -> tuple[MediaType, ...]:
    """The types of an Accept header, best first; refused ones (q=0) are left out; an empty header is `*/*`."""
    return tuple(sorted((t for t in listed_types(header) if t.quality > 0), key=lambda t: -t.quality))


def listed_types(header: str) -> list[MediaType]:
    """All types of an Accept header, refused ones too, as they stand."""
    return [parse_media_type(part) for part in header.split(",") if part.strip()] or [MediaType("*/*")]


def _known_charset(name: str) -> str:
    """The charset's own name in Python."""
    try:
        "".encode(name)
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        found = "undefined"
    if found in _NO_CHARSETS:
        raise MalformedBody(f"charset {name!r} is unknown; expected one that Python knows, such as utf-8.")
    return found


def _quality(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 1.0
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0

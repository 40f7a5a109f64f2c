"""Amazon's event stream (application/vnd.amazon.eventstream): messages of headers and a payload, with checksums.

botocore decodes this format and encodes none of it, so the few lines that encode stand here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_STRING = 7


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Headers, all strings."""
    parts = []
    for name, value in headers.items():
        key, text = name.encode(), value.encode()
        parts.append(struct.pack(f"!B{len(key)}sBH{len(text)}s", len(key), key, _STRING, len(text), text))
    return b"".join(parts)


def encode_message(headers: bytes, payload: bytes) -> bytes:
    """One message: its lengths, headers, payload, and the checksums of the first and of all."""
    start = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    checked = crc32(start)
    whole = b"".join((start, checked.to_bytes(4), headers, payload))
    return whole + crc32(whole).to_bytes(4)


_PART = encode_headers(
    {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"}
)


def payload_part(chunk: bytes) -> bytes:
    """A PayloadPart event."""
    return encode_message(_PART, chunk)


def stream_error(code: str, message: str) -> bytes:
    """A ModelStreamError; ``code`` is ModelInvocationTimeExceeded or StreamBroken."""
    headers = {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    return encode_message(encode_headers(headers), json.dumps({"Message": message, "ErrorCode": code}).encode())

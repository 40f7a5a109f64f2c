"""What a container is asked, and how its answer is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

TOLD = (
    b"x-amzn-sagemaker-custom-attributes",
    b"x-amzn-sagemaker-target-model",
    b"x-amzn-sagemaker-inference-id",
    b"x-amzn-sagemaker-enable-explanations",
    b"x-amzn-sagemaker-session-id",
    b"x-amzn-sagemaker-prefix-aware-id",
)
"""The API's headers that a container is told beside Content-Type and Accept; those that only route are not."""

Headers = Mapping[bytes, bytes]


class Kind(Enum):
    """How the answer is wanted: whole; as an event stream; as the container sends it; into a file."""

    INVOKE = auto()
    EVENTS = auto()
    PLAIN_STREAM = auto()
    FORWARD = auto()


@dataclass(slots=True)  # not frozen, which costs a microsecond of each request; nobody changes one
class Request:
    """What is sent to a container: ``body`` are its bytes, or its pieces with ``length``.

    ``headers`` are the API's, in lower case; ``path`` is the container's.
    """

    kind: Kind
    headers: Headers
    body: bytes | Callable[[], Iterator[bytes]]
    length: int
    path: bytes = b"/invocations"
    seconds: float = 60.0


def request_head(request: Request, host: bytes, length: int, content_type: bytes | None) -> bytes:
    """Request line and headers of the request to a container, whose body may be another container's answer."""
    headers = request.headers
    parts = [b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n" % (request.path, host, length)]
    if content_type is not None:
        parts.append(b"Content-Type: %b\r\n" % content_type)
    accept = headers.get(b"accept")
    if accept is not None:
        parts.append(b"Accept: %b\r\n" % accept)
    if len(headers) > len(parts) - 1:
        parts += [b"%b: %b\r\n" % (name, headers[name]) for name in TOLD if name in headers]
    parts.append(b"\r\n")
    return b"".join(parts)

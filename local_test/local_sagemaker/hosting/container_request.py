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


@dataclass(frozen=True, slots=True)
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

"""What goes in and out, whatever server carries it: a request, its headers, and the answer to it."""

import math
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of an invocation that matter.

    `headers` does not mind upper and lower case in names. `deadline` is the moment of the monotonic clock after which
    nobody waits for the answer any more; `is_wanted` says whether the caller is still there. `target` is the name of
    the model where there are many, `session` the caller's session where the endpoint has sessions.
    """

    body: bytes
    content_type: str
    accept: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    deadline: float = math.inf
    is_wanted: Callable[[], bool] | None = None
    target: str = ""
    session: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. A body that is not bytes is a stream: each chunk leaves as soon as it is made."""

    body: bytes | Iterable[bytes]
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AsyncAnswer:
    """A stream whose pieces are awaited on an event loop."""

    body: AsyncIterator[bytes]
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class EnvironHeaders(Mapping[str, str]):
    """The headers of a WSGI request, read from its environment only when somebody asks."""

    __slots__ = ("_environ",)
    _PLAIN = ("CONTENT_TYPE", "CONTENT_LENGTH")

    def __init__(self, environ: Mapping[str, object]) -> None:
        self._environ = environ

    def __getitem__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        value = self._environ[key if key in self._PLAIN else f"HTTP_{key}"]
        return str(value)

    def __iter__(self) -> Iterator[str]:
        for key in self._environ:
            if key.startswith("HTTP_"):
                yield key[5:].replace("_", "-").title()
            elif key in self._PLAIN and self._environ[key]:
                yield key.replace("_", "-").title()

    def __len__(self) -> int:
        return sum(1 for _ in self)


class ListedHeaders(Mapping[str, str]):
    """The headers of an ASGI request, a list of pairs of bytes with lower-case names."""

    __slots__ = ("_found", "_listed")

    def __init__(self, listed: Iterable[tuple[bytes, bytes]]) -> None:
        self._listed = listed
        self._found: dict[str, str] | None = None

    def __getitem__(self, name: str) -> str:
        return self._all()[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return (name.title() for name in self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, str]:
        if self._found is None:
            self._found = {}
            for name, value in self._listed:
                key, text = name.decode("latin-1").lower(), value.decode("latin-1")
                self._found[key] = f"{self._found[key]},{text}" if key in self._found else text
        return self._found

"""One HTTP exchange as the platform would have it, with its times; also requests that stop half-way."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PING_SECONDS = 2.0
CONNECT_SECONDS = 0.25
INVOCATION_SECONDS = 60.0
CHUNK = 64 * 1024
Address = tuple[str, int]


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: None if no answer came.
        headers: names in lower case.
        body: all of it.
        seconds: from the first byte sent to the last received.
        connect_seconds: until the connection was taken.
        trouble: why no answer came.
    """

    status: int | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0
    connect_seconds: float = 0.0
    trouble: str = ""

    @property
    def ok(self) -> bool:
        """Whether the request succeeded."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_servers_error(self) -> bool:
        """Whether the server failed: a status of 500 or more, or no answer."""
        return self.status is None or self.status >= 500

    def __str__(self) -> str:
        if self.status is None:
            return f"no answer after {self.seconds:.2f} s: {self.trouble}"
        text = " ".join(self.body[:200].decode(errors="replace").split())
        return f"status {self.status} after {self.seconds:.2f} s{f': {text}' if text else ''}"


def ask(
    address: Address,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = INVOCATION_SECONDS,
    *,
    chunked: bool = False,
) -> Answer:
    """Send a request and take the answer, on a connection of its own. Never raises for what the server does."""
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    start = time.monotonic()
    connected = 0.0
    try:
        connection.connect()
        connected = time.monotonic() - start
        sent = dict(headers or {})
        if chunked:
            sent["Transfer-Encoding"] = "chunked"
        trouble = _send(connection, method, path, body, sent, chunked)
        try:
            answer = _received(connection, start, connected)
        except (OSError, http.client.HTTPException) as error:
            raise trouble or error from None
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, seconds=time.monotonic() - start, connect_seconds=connected, trouble=_words(error))
    else:
        return answer
    finally:
        connection.close()


def _send(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
    chunked: bool,
) -> OSError | None:
    """Send all; a server may answer and close before it has read all, which is no trouble if there is an answer."""
    try:
        if chunked:
            pieces = _pieces(body or b"")
            connection.request(method, path, body=pieces, headers=dict(headers), encode_chunked=True)
        else:
            connection.request(method, path, body=body, headers=dict(headers))
    except (BrokenPipeError, ConnectionResetError) as error:
        return error
    return None


def _received(connection: http.client.HTTPConnection, start: float, connected: float) -> Answer:
    response = connection.getresponse()
    data = response.read()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, data, time.monotonic() - start, connected)


def ping(address: Address, method: str = "GET", timeout: float = PING_SECONDS) -> Answer:
    """One health check."""
    return ask(address, method, "/ping", b"" if method == "POST" else None, timeout=timeout)


def ask_at_once(address: Address, count: int, body: bytes, headers: Mapping[str, str]) -> list[Answer]:
    """The same invocation ``count`` times at once; the answers once all have come."""
    answers: list[Answer] = []

    def one() -> None:
        answers.append(ask(address, "POST", "/invocations", body, headers))

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def serves_twice(address: Address) -> bool:
    """Whether one connection takes two requests, soon or late."""
    connection = http.client.HTTPConnection(*address, timeout=PING_SECONDS * 5)
    with suppress(OSError, http.client.HTTPException):
        connection.connect()
        own = connection.sock
        for _ in range(2):
            if connection.sock is not own:
                return False
            connection.request("GET", "/ping")
            connection.getresponse().read()
        return True
    return False


class HalfSent:
    """An invocation whose head and first half are sent; the rest is sent when it is told."""

    def __init__(self, address: Address, body: bytes, headers: Mapping[str, str]) -> None:
        self._start = time.monotonic()
        self._rest = body[len(body) // 2 :]
        self._trouble: OSError | None = None
        self._connection = http.client.HTTPConnection(*address, timeout=PING_SECONDS)
        self._connection.putrequest("POST", "/invocations")
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self._connection.putheader(name, value)
        try:
            self._connection.endheaders(body[: len(body) // 2])
            self._connection.sock.settimeout(INVOCATION_SECONDS)
        except OSError as error:
            self._trouble = error

    @property
    def is_under_way(self) -> bool:
        """Whether the server, or its machine, has taken what was sent."""
        return self._trouble is None

    def finish(self) -> Answer:
        """Send the rest and take the answer."""
        try:
            if self._trouble is not None:
                raise self._trouble
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.send(self._rest)
            return _received(self._connection, self._start, 0.0)
        except (OSError, http.client.HTTPException) as error:
            return Answer(None, seconds=time.monotonic() - self._start, trouble=_words(error))
        finally:
            self.close()

    def close(self) -> None:
        """Leave it as it is."""
        self._connection.close()


@contextmanager
def half_sent(address: Address, count: int, body: bytes, headers: Mapping[str, str]) -> Iterator[Sequence[HalfSent]]:
    """Some invocations that are under way for the length of a block."""
    begun: list[HalfSent] = []
    try:
        for _ in range(count):
            begun.append(HalfSent(address, body, headers))
            if not begun[-1].is_under_way:
                break  # the server takes no more
        yield begun
    finally:
        for one in begun:
            one.close()


def opens_websocket(address: Address, path: str) -> Answer:
    """Ask for a WebSocket; status 101 means that there is one."""
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "YmVnaW5zLWEtc3RyZWFtLg==",
    }
    start = time.monotonic()
    connection = http.client.HTTPConnection(*address, timeout=PING_SECONDS * 5)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = b"" if response.status == 101 else response.read()
        return Answer(response.status, {}, body, time.monotonic() - start)
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, seconds=time.monotonic() - start, trouble=_words(error))
    finally:
        connection.close()


def _words(error: Exception) -> str:
    if isinstance(error, socket.timeout):
        return "timed out"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), CHUNK):
        yield body[start : start + CHUNK]

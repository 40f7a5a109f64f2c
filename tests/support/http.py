"""One HTTP request with exactly the headers asked for: nothing is added behind the test's back."""

import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower case."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    @property
    def json(self) -> Any:
        """The body read as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        """The ``error`` object of an answer that is not 200; asserts that it has the promised form."""
        assert self.content_type == "application/json", f"an error must be JSON, got {self.headers} {self.body!r}"
        document = json.loads(self.body)
        assert set(document) == {"error"}, document
        assert {"type", "message"} <= set(document["error"]), document
        error: dict[str, str] = document["error"]
        return error


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 60.0,
) -> Reply:
    """Send one request to 127.0.0.1; a ``body`` that is not bytes is sent chunked."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        if body is None or isinstance(body, bytes):
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
        else:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            for chunk in body:
                connection.send(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            connection.send(b"0\r\n\r\n")
        answer = connection.getresponse()
        content = answer.read()
        return Reply(answer.status, {key.lower(): value for key, value in answer.getheaders()}, content)
    finally:
        connection.close()

"""WSGI without a framework: the way of /invocations past Flask, and what both ways share to read and to answer."""

import re
import select
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sagemaker_byoc.errors import MalformedBody, too_large
from sagemaker_byoc.serving.exchange import Answer, AsyncAnswer, EnvironHeaders, Request
from sagemaker_byoc.serving.service import Service

_INVOKE = re.compile(r"/models/(.+)/invoke", re.DOTALL)
_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}


class Shortcut:
    """Answers POST /invocations itself, and POST /models/NAME/invoke where there are many models, and leaves everything
    else to the application with all the routes.
    """

    def __init__(self, service: Service, routes: Callable[[], WSGIApplication]) -> None:
        self._service = service
        self._routes = routes
        self._has_many = service.settings.multi_model
        self._largest = service.settings.max_request_mb

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/invocations" and environ["REQUEST_METHOD"] == "POST":
            read = partial(read_request, environ, self._largest)
            return send(self._service.invoke(read, body_size(environ)), start_response)
        if self._has_many and environ["REQUEST_METHOD"] == "POST":
            asked = _INVOKE.fullmatch(environ["PATH_INFO"])
            if asked:
                name = asked[1].encode("latin-1").decode("utf-8", "replace")
                read = partial(read_request_to, environ, name, self._largest)
                return send(self._service.invoke(read, body_size(environ)), start_response)
        return self._routes()(environ, start_response)


def read_request(environ: WSGIEnvironment, largest: int, deadline: float) -> Request:
    """The request that a WSGI environment holds, with its whole body; `largest`: of how many MB, 0 for no limit.

    Raises MalformedBody for a body that is cut off, and TooLarge.
    """
    return Request(
        _read_body(environ, largest),
        environ.get("CONTENT_TYPE") or "",
        environ.get("HTTP_ACCEPT") or "",
        EnvironHeaders(environ),
        deadline,
        partial(_is_connected, environ.get("gunicorn.socket")),
    )


def read_request_to(environ: WSGIEnvironment, target: str, largest: int, deadline: float) -> Request:
    """The same for the model of a name."""
    return replace(read_request(environ, largest, deadline), target=target)


def body_size(environ: WSGIEnvironment) -> int | None:
    """The length of the request's body in bytes, or None where it is sent in chunks."""
    text = environ.get("CONTENT_LENGTH")
    if text:
        return int(text)
    return None if environ.get("HTTP_TRANSFER_ENCODING") else 0


def send(answer: Answer, start_response: StartResponse) -> Iterable[bytes]:
    """Answer in WSGI's way."""
    start_response(status_line(answer.status), header_list(answer))
    return [answer.body] if isinstance(answer.body, bytes) else answer.body


def status_line(status: int) -> str:
    """`200 OK`."""
    return _STATUS_LINES.get(status) or f"{status} Unknown"


def header_list(answer: Answer | AsyncAnswer) -> list[tuple[str, str]]:
    """The headers of an answer, in the order in which they are sent."""
    headers = [("Content-Type", answer.content_type)]
    if isinstance(answer.body, bytes):
        headers.append(("Content-Length", str(len(answer.body))))
    headers.extend(answer.headers)
    return headers


def _read_body(environ: WSGIEnvironment, largest: int) -> bytes:
    """Nginx has seen to the limit before; without it this is the place."""
    size = body_size(environ)
    if size == 0:
        return b""
    limit = largest << 20
    if limit and size is not None and size > limit:
        raise too_large(largest)
    try:
        body: bytes = environ["wsgi.input"].read(size if size is not None else limit + 1 if limit else -1)
    except Exception as error:
        raise MalformedBody(f"the request body could not be read: {error}") from error
    if limit and len(body) > limit:
        raise too_large(largest)
    if size is not None and len(body) < size:
        raise MalformedBody(f"the request body ended after {len(body)} of {size} bytes.")
    return body


def _is_connected(connection: socket.socket | None) -> bool:
    """Whether the caller, or nginx for it, still holds the connection; what it has sent since does not matter."""
    if connection is None:
        return True
    readable = select.poll()  # a socket with a timeout would wait for it, MSG_DONTWAIT or not
    try:
        readable.register(connection, select.POLLIN)
        return not readable.poll(0) or connection.recv(1, socket.MSG_PEEK) != b""
    except (OSError, ValueError):
        return False

"""Requests that no well-meaning client sends, byte by byte, and what a server may do with each of them."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

TAKEN = "taken"  # answered with 2xx
REFUSED = "refused"  # answered with 4xx, 501 or 505, or the connection is closed
EITHER = "either"  # servers differ, and both ways are safe
PROTOCOL_STATUSES = frozenset({501, 505})
SECONDS = 10.0

MANY = 40_000
JSON = b"Content-Type: application/json\r\n"
POST = b"POST /invocations HTTP/1.1\r\nHost: here\r\n" + JSON
# What nobody has asked for. The function writes `predicting` to the log when it gets this.
SMUGGLED = POST + b'Content-Length: 14\r\n\r\n{"do": "wait"}'


@dataclass(frozen=True)
class RawRequest:
    """Bytes to send on one connection.

    `ends`: the client sends no more after them, and says so. `answers`: how many there may be at most.
    """

    name: str
    sent: bytes
    verdict: str = REFUSED
    ends: bool = False
    answers: int = 1


@dataclass
class Received:
    """What came back on one connection."""

    data: bytes = b""
    closed: bool = False
    statuses: list[int] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Taken or refused, as a caller sees it."""
        return TAKEN if self.statuses and 200 <= self.statuses[0] < 300 else REFUSED


def post(headers: bytes, body: bytes = b"") -> bytes:
    """An invocation with these further headers."""
    return POST + headers + b"\r\n" + body


def chunks(*lines: bytes) -> bytes:
    """An invocation in chunks, of these lines."""
    return post(b"Transfer-Encoding: chunked\r\n", b"\r\n".join(lines) + b"\r\n")


def exchange(port: int, sent: bytes, ends: bool = False, answers: int = 1, seconds: float = SECONDS) -> Received:
    """Send, and read until so many answers are whole or the server closes. Raises TimeoutError when neither happens."""
    deadline = time.monotonic() + seconds
    received = Received()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):  # refused before all of it was sent; the answer may have come
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        while not received.closed and len(received.statuses) < answers:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            _take(connection, received)
    return received


def exchange_or_end(port: int, sent: bytes, seconds: float = SECONDS) -> Received:
    """Send what may be no whole request: when nothing comes back at once, say that there is no more of it.

    Raises TimeoutError when the server then neither answers nor closes.
    """
    deadline = time.monotonic() + seconds
    received = Received()
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        if not select.select([connection], [], [], 0.05)[0]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        while not received.closed and not received.statuses:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            _take(connection, received)
    return received


def _take(connection: socket.socket, received: Received) -> None:
    try:
        piece = connection.recv(1 << 16)
    except ConnectionResetError:
        piece = b""
    received.data += piece
    received.closed = not piece
    received.statuses = list(_statuses(received.data, received.closed))


def _statuses(data: bytes, closed: bool) -> Iterator[int]:
    """The status of each answer that is whole. Raises ValueError for what is no HTTP."""
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.split(b"\r\n")
        protocol, status, _ = first.split(b" ", 2)
        if not protocol.startswith(b"HTTP/1."):
            raise ValueError(f"no answer begins like this: {first!r}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if int(status) == 100:
            data = rest
            continue
        whole = _after_body(headers, rest, closed)
        if whole is None:
            return
        yield int(status)
        data = whole


def _after_body(headers: dict[bytes, bytes], rest: bytes, closed: bool) -> bytes | None:
    """What follows an answer's body, or None where the body is not whole."""
    if headers.get(b"transfer-encoding") == b"chunked":
        end = b"0\r\n\r\n"
        return None if end not in rest else rest.partition(end)[2]
    if b"content-length" in headers:
        size = int(headers[b"content-length"])
        return None if len(rest) < size else rest[size:]
    return b"" if closed else None


def _headers(count: int, size: int = 5) -> bytes:
    return b"".join(b"X-Filler-%d: %b\r\n" % (number, b"f" * size) for number in range(count))


CHUNKED = b"Transfer-Encoding: chunked\r\n"
ZERO = b"0\r\n\r\n"

TWO_LENGTHS = [  # of a body that ends in two places: whoever believes the other one sees a second request
    RawRequest("length and chunks", post(b"Content-Length: 5\r\n" + CHUNKED, ZERO + SMUGGLED)),
    RawRequest("chunks and length", post(CHUNKED + b"Content-Length: 5\r\n", ZERO + SMUGGLED)),
    RawRequest(
        "length of all and chunks", post(b"Content-Length: %d\r\n" % (5 + len(SMUGGLED)) + CHUNKED, ZERO + SMUGGLED)
    ),
    RawRequest("two lengths", post(b"Content-Length: 3\r\nContent-Length: 0\r\n", b"[1]" + SMUGGLED)),
    RawRequest("two equal lengths", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("a list of lengths", post(b"Content-Length: 3, 3\r\n", b"[1]" + SMUGGLED)),
    RawRequest("a length with a sign", post(b"Content-Length: +3\r\n", b"[1]" + SMUGGLED)),
    RawRequest("a negative length", post(b"Content-Length: -1\r\n", b"[1]")),
    RawRequest("a hexadecimal length", post(b"Content-Length: 0x3\r\n", b"[1]" + SMUGGLED)),
    RawRequest("a length with an underscore", post(b"Content-Length: 1_0\r\n", b"[1]" + SMUGGLED)),
    RawRequest("a length in other digits", post(b"Content-Length: \xef\xbc\x93\r\n", b"[1]" + SMUGGLED)),
    RawRequest("a length of 5000 digits", post(b"Content-Length: " + b"9" * 5000 + b"\r\n", b"[1]")),
    RawRequest("a length beyond 64 bits", post(b"Content-Length: 18446744073709551617\r\n", b"[1]"), ends=True),
    RawRequest("a length without digits", post(b"Content-Length:\r\n", b"[1]" + SMUGGLED)),
    RawRequest("length with a tab before its colon", post(b"Content-Length\t: 3\r\n", b"[1]" + SMUGGLED)),
    RawRequest("length with a space before its colon", post(b"Content-Length : 3\r\n", b"[1]" + SMUGGLED)),
    RawRequest("chunks and a hidden length", post(CHUNKED + b"Content_Length: 5\r\n", ZERO), EITHER),
]
OBSCURED_CHUNKS = [
    RawRequest(f"transfer encoding {shown!r}", post(header + b"Content-Length: 5\r\n", ZERO + SMUGGLED))
    for shown, header in (
        ("xchunked", b"Transfer-Encoding: xchunked\r\n"),
        ("space before the colon", b"Transfer-Encoding : chunked\r\n"),
        ("vertical tab", b"Transfer-Encoding: \x0bchunked\r\n"),
        ("twice", CHUNKED + CHUNKED),
        ("chunked, identity", b"Transfer-Encoding: chunked, identity\r\n"),
        ("identity", b"Transfer-Encoding: identity\r\n"),
        ("chunked twice in a list", b"Transfer-Encoding: chunked, chunked\r\n"),
        ("upper case", b"TRANSFER-ENCODING: CHUNKED\r\n"),
        ("quoted", b'Transfer-Encoding: "chunked"\r\n'),
        ("folded", b"Transfer-Encoding:\r\n chunked\r\n"),
        ("gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n"),
        ("nothing", b"Transfer-Encoding:\r\n"),
        ("after a bare CR", b"X: y\rTransfer-Encoding: chunked\r\n"),
    )
] + [
    RawRequest("transfer encoding xchunked alone", post(b"Transfer-Encoding: xchunked\r\n", ZERO + SMUGGLED)),
    RawRequest("transfer encoding gzip, chunked alone", post(b"Transfer-Encoding: gzip, chunked\r\n", ZERO)),
    RawRequest(
        "chunks in HTTP/1.0",
        b"POST /invocations HTTP/1.0\r\n" + JSON + CHUNKED + b"Connection: keep-alive\r\n\r\n" + ZERO + SMUGGLED,
    ),
]
CHUNKS = [
    RawRequest("chunks", chunks(b"3", b"[1]", b"0", b""), TAKEN),
    RawRequest("a chunk with an extension", chunks(b"3;a=b", b"[1]", b"0", b""), EITHER),
    RawRequest("a chunk size with zeros before it", chunks(b"0000000003", b"[1]", b"0", b""), EITHER),
    RawRequest("a chunk with trailers", chunks(b"3", b"[1]", b"0", b"X-Trailer: 1", b""), EITHER),
    RawRequest("a trailer that is a length", chunks(b"3", b"[1]", b"0", b"Content-Length: 9", b""), EITHER),
    RawRequest("a negative chunk", chunks(b"-3", b"[1]", b"0", b"")),
    RawRequest("a chunk size with 0x", chunks(b"0x3", b"[1]", b"0", b"")),
    RawRequest("a chunk size with an underscore", chunks(b"1_0", b"[1]", b"0", b"")),
    RawRequest("a chunk size with a sign", chunks(b"+3", b"[1]", b"0", b"")),
    RawRequest("a chunk size beyond 64 bits", chunks(b"10000000000000003", b"[1]", b"0", b"") + SMUGGLED, ends=True),
    RawRequest("a chunk size of 300 digits", chunks(b"f" * 300, b"[1]", b"0", b"") + SMUGGLED, ends=True),
    RawRequest("a chunk size that is none", chunks(b"zz", b"[1]", b"0", b"")),
    RawRequest("a chunk without a size", chunks(b"", b"[1]", b"0", b"")),
    RawRequest("a chunk longer than its size", chunks(b"2", b"[1]", b"0", b"")),
    RawRequest("a chunk size after a space", chunks(b" 3", b"[1]", b"0", b""), EITHER),
    RawRequest("a chunk's extension ends with a bare LF", chunks(b"3;\n[1", b"]", b"0", b""), EITHER, ends=True),
    RawRequest("chunks with bare LF", post(CHUNKED, b"3\n[1]\n0\n\n"), EITHER, ends=True),
    RawRequest("a chunk's extension of 100 kB", chunks(b"3;" + b"e" * 100_000, b"[1]", b"0", b""), EITHER),
    RawRequest("chunks that end early", post(CHUNKED, b"9\r\n[1"), ends=True),
    RawRequest("chunks without the last", post(CHUNKED, b"3\r\n[1]\r\n"), ends=True),
]
LINES = [
    RawRequest("lines with bare LF", b"GET /ping HTTP/1.1\nHost: here\n\n", EITHER, ends=True),
    RawRequest("a bare CR in a header", post(b"X-A: 1\rX-B: 2\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("a folded header", post(b"X-A: 1\r\n 2\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("NUL in a header", post(b"X-A: a\0b\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("NUL in a header's name", post(b"X-\0A: b\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("NUL in the path", b"GET /ping\0 HTTP/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("NUL in the method", b"GE\0T /ping HTTP/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("a control character in a header", post(b"X-A: a\x01b\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("a space in a header's name", post(b"X A: b\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("an underscore in a header's name", post(b"X_A: b\r\nContent-Length: 3\r\n", b"[1]"), TAKEN),
    RawRequest("a header without a name", post(b": b\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest(
        "a header's name on two lines", post(b"Transfer\r\n-Encoding: chunked\r\nContent-Length: 3\r\n", b"[1]"), EITHER
    ),
    RawRequest("a header without a colon", post(b"novalue\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("a space before the first header", b"GET /ping HTTP/1.1\r\n Host: here\r\n\r\n", EITHER),
    RawRequest("bytes that are not ASCII in a header", post(b"X-A: \xff\xfe\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("a header of 100 kB", post(b"X-A: " + b"a" * 100_000 + b"\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("a header's name of 100 kB", post(b"X" * 100_000 + b": a\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("a megabyte of header without an end", POST + b"X-A: " + b"a" * (1 << 20), ends=True),
    RawRequest("2000 headers", post(_headers(2000) + b"Content-Length: 3\r\n", b"[1]")),
    RawRequest("120 headers", post(_headers(120) + b"Content-Length: 3\r\n", b"[1]")),
    RawRequest("30 headers of 1 kB", post(_headers(30, 1000) + b"Content-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("a path of 100 kB", b"GET /" + b"p" * 100_000 + b" HTTP/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("empty lines before the request", b"\r\n\r\n" + post(b"Content-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("nothing but empty lines", b"\r\n" * 20, ends=True),
    RawRequest("no request", b"\x00\x01\x02\x03\r\n\r\n", ends=True),
    RawRequest("the beginning of TLS", bytes.fromhex("16030100a5010000a10303") + b"\x00" * 160, ends=True),
    RawRequest("two content types", post(b"Content-Type: text/csv\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
    RawRequest("two hosts", post(b"Host: there\r\nContent-Length: 3\r\n", b"[1]")),
    RawRequest("no host", b"GET /ping HTTP/1.1\r\n\r\n", EITHER),
    RawRequest("a host with a slash", b"POST /ping HTTP/1.1\r\nHost: a/../b\r\nContent-Length: 0\r\n\r\n", EITHER),
]
VERSIONS = [
    RawRequest("HTTP/0.9", b"GET /ping\r\n", EITHER, ends=True),
    RawRequest("HTTP/1.0", b"GET /ping HTTP/1.0\r\n\r\n", TAKEN),
    RawRequest(
        "HTTP/1.0 that keeps its connection",
        (b"POST /invocations HTTP/1.0\r\nConnection: keep-alive\r\n" + JSON + b"Content-Length: 3\r\n\r\n[1]") * 2,
        TAKEN,
        answers=2,
    ),
    RawRequest("HTTP/1.2", b"GET /ping HTTP/1.2\r\nHost: here\r\n\r\n", EITHER),
    RawRequest("HTTP/2.0", b"GET /ping HTTP/2.0\r\nHost: here\r\n\r\n"),
    RawRequest("HTTP/9.9", b"GET /ping HTTP/9.9\r\nHost: here\r\n\r\n"),
    RawRequest("HTTP/1.1 with letters behind it", b"GET /ping HTTP/1.1x\r\nHost: here\r\n\r\n"),
    RawRequest("http in lower case", b"GET /ping http/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9, ends=True),
    RawRequest(
        "an upgrade to h2c",
        b"GET /ping HTTP/1.1\r\nHost: here\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
        TAKEN,
    ),
    RawRequest(
        "an upgrade of an invocation to h2c, and a request behind it",
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n", b"[1]"),
        TAKEN,
    ),
    RawRequest(
        "an upgrade to WebSocket that cannot be",
        b"GET /invocations HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 777\r\nSec-WebSocket-Key: none\r\n\r\n",
    ),
    RawRequest(
        "an upgrade to WebSocket with a body",
        post(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
        EITHER,
    ),
    RawRequest("expects to go on", post(b"Expect: 100-continue\r\nContent-Length: 3\r\n", b"[1]"), TAKEN),
    RawRequest("expects something else", post(b"Expect: gold\r\nContent-Length: 3\r\n", b"[1]"), EITHER),
]
PATHS = [
    RawRequest(f"path {path!r}", b"GET " + path + b" HTTP/1.1\r\nHost: here\r\n\r\n", verdict)
    for path, verdict in (
        (b"/../../etc/passwd", REFUSED),
        (b"/%2e%2e/%2e%2e/etc/passwd", REFUSED),
        (b"/..%2f..%2fetc%2fpasswd", REFUSED),
        (b"/models/../../../etc/passwd", REFUSED),
        (b"/models/%2e%2e%2f%2e%2e%2fetc", REFUSED),
        (b"/ping/../invocations", REFUSED),
        (b"/ping/", REFUSED),
        (b"/ping%00", REFUSED),
        (b"/ping;a=b", REFUSED),
        (b"/ping\\..\\invocations", REFUSED),
        (b"/%zz", REFUSED),
        (b"/%", REFUSED),
        (b"/\xff\xfe", REFUSED),
        (b"/%ff%fe", REFUSED),
        (b"*", REFUSED),
        (b"ping", REFUSED),
        (b"", REFUSED),
        (b"/ping extra", REFUSED),
        (b"http://other/ping", EITHER),
        (b"http://other:99999/ping", EITHER),
        (b"//ping", EITHER),
        (b"/./ping", EITHER),
        (b"/%70ing", EITHER),
        (b"/ping#here", EITHER),
        (b"/ping?" + b"q" * 3000, EITHER),
    )
] + [
    RawRequest(f"invocation at {path!r}", request.replace(b"/invocations", path, 1), verdict)
    for request in (post(b"Content-Length: 3\r\n", b"[1]"),)
    for path, verdict in (
        (b"//invocations", EITHER),
        (b"/invocations/", REFUSED),
        (b"/%69nvocations", EITHER),
        (b"/ping/../invocations", EITHER),
        (b"/Invocations", REFUSED),
        (b"/invocations%2f", REFUSED),
        (b"/invocations%00", REFUSED),
        (b"/invocations?a=%00", TAKEN),
        (b"http://other/invocations", EITHER),
        (b"/models", REFUSED),
        (b"/models/../invocations", EITHER),
        (b"/models/a/invoke", REFUSED),
        (b"/models/..%2f..%2f/invoke", REFUSED),
    )
]
METHODS = [
    RawRequest("CONNECT", b"CONNECT here:80 HTTP/1.1\r\nHost: here:80\r\n\r\n"),
    RawRequest("TRACE", b"TRACE /ping HTTP/1.1\r\nHost: here\r\nCookie: secret\r\n\r\n", EITHER),
    RawRequest("a method of 10 kB", b"M" * 10_000 + b" /ping HTTP/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("a method in lower case", b"get /ping HTTP/1.1\r\nHost: here\r\n\r\n", EITHER),
    RawRequest("a method with a colon", b"GE:T /ping HTTP/1.1\r\nHost: here\r\n\r\n"),
    RawRequest("GET with a body", b"GET /ping HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\n[1]", TAKEN),
    RawRequest(
        "GET of an invocation with a request for its body",
        b"GET /invocations HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    ),
    RawRequest(
        "an unknown path with a request for its body",
        b"POST /unknown HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    ),
    RawRequest(
        "an unknown type with a request for its body",
        b"POST /invocations HTTP/1.1\r\nHost: here\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n" % len(SMUGGLED)
        + SMUGGLED,
    ),
]
METHODS += [  # answered before their bodies have come, which then must not be taken for requests
    RawRequest(
        f"{name} with 5 MB of requests for its body",
        first
        + b" HTTP/1.1\r\nHost: here\r\nContent-Type: a/b\r\nContent-Length: %d\r\n\r\n" % (len(SMUGGLED) * MANY)
        + SMUGGLED * MANY,
    )
    for name, first in (
        ("an unknown path", b"POST /unknown"),
        ("GET of an invocation", b"GET /invocations"),
        ("an unknown type", b"POST /invocations"),
        ("a method that is not allowed", b"DELETE /invocations"),
        ("an unknown model", b"POST /models/unknown/invoke"),
    )
]
HEADERS = [
    RawRequest(f"{name}", post(header + b"\r\nContent-Length: 3\r\n", b"[1]"), verdict)
    for name, header, verdict in (
        ("a connection that names its headers", b"Connection: close, Content-Length", EITHER),
        ("a connection that names the length", b"Connection: keep-alive, Content-Length, Host", EITHER),
        ("a connection of 1000 names", b"Connection: " + b"a," * 1000, TAKEN),
        ("forwarded as https and not", b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off", TAKEN),
        ("forwarded for somebody", b"X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1", TAKEN),
        ("a header of ours", b"X-Byoc-Slot: 9\r\nX-Byoc-Anything: 1", TAKEN),
        ("a path in a header", b"PATH_INFO: /metrics", TAKEN),
        ("a script's name in a header", b"SCRIPT_NAME: /invocations", TAKEN),
        (
            "another path to go to",
            b"X-Accel-Redirect: /ping\r\nX-Sendfile: /etc/passwd\r\nX-Original-URL: /metrics",
            TAKEN,
        ),
        ("another method", b"X-HTTP-Method-Override: DELETE", TAKEN),
        ("a compressed body that is none", b"Content-Encoding: gzip", EITHER),
        ("a range", b"Range: bytes=0-0", TAKEN),
        ("a proxy", b"Proxy: http://other", TAKEN),
        ("a trace that is none", b"traceparent: 00-zz-zz-zz", TAKEN),
        ("a type that is none", b"Accept: ;;;,,=", EITHER),
        ("a quality that is none", b"Accept: text/csv;q=nan, */*;q=1e999", EITHER),
        ("10000 types accepted", b"Accept: " + b"a/b," * 1000 + b"*/*", EITHER),
    )
]
BODIES = [
    RawRequest("a body that ends early", post(b"Content-Length: 10\r\n", b"[1]"), ends=True),
    RawRequest("a head that ends early", POST, ends=True),
    RawRequest("a line that ends early", b"POST /invoc", ends=True),
    RawRequest("nothing", b"", ends=True),
    RawRequest(
        "a body longer than its length", post(b"Content-Length: 3\r\n", b"[1]garbage\r\n\r\n"), TAKEN, answers=2
    ),
    RawRequest("several at once", post(b"Content-Length: 3\r\n", b"[1]") * 5, TAKEN, answers=5),
    RawRequest("a body without a length", post(b"", b"[1]"), REFUSED, ends=True, answers=2),
    RawRequest("JSON 100000 deep", post(b"Content-Length: 200000\r\n", b"[" * 100_000 + b"]" * 100_000)),
    RawRequest("a number of 100000 digits", post(b"Content-Length: 100000\r\n", b"9" * 100_000), EITHER),
    RawRequest("JSON of NUL", post(b"Content-Length: 3\r\n", b"\0\0\0")),
    RawRequest("half of a surrogate", post(b"Content-Length: 8\r\n", b'"\\ud800"'), EITHER),
]

CORPUS = [
    *(*TWO_LENGTHS, *OBSCURED_CHUNKS, *CHUNKS, *LINES, *VERSIONS, *PATHS, *METHODS, *HEADERS, *BODIES),
]

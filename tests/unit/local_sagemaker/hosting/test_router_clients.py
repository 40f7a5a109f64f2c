"""Clients that speak HTTP in their own way: what they are answered, and that each answer ends where it says."""

import http.client
import socket

import pytest
from local_sagemaker.hosting.open_files import allow_open_files

LAST = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
REQUEST = b"POST /invocations HTTP/1.1\r\nHost: x\r\n%bContent-Length: 2\r\n\r\n%b"


def exchange(endpoint, *requests, methods=()):
    """Status, headers and body of each answer on one connection, and of a last GET /ping that closes it."""
    with endpoint.connect() as client:
        client.sendall(b"".join((*requests, LAST)))
        found = []
        with client.makefile("rb") as stream:
            for place in range(len(requests) + 1):
                one = http.client.HTTPResponse(
                    _Unclosed(stream), method=methods[place] if place < len(methods) else None
                )
                one.begin()
                found.append((one.status, one.headers, one.read()))
            assert stream.read() == b""
    return found


class _Unclosed:
    """The file of a connection, for the reader of one answer: the next one reads on."""

    def __init__(self, stream):
        self._stream = stream

    def makefile(self, _mode):
        return self

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def close(self):
        pass


def test_an_offer_of_http_2_is_left_unanswered_and_the_request_answered(one):
    """15.1, 15.6."""
    endpoint, container = one()
    offered = [REQUEST % (OFFER, b"%02d" % number) for number in range(3)]
    found = exchange(endpoint, *offered)
    assert [(status, body) for status, _, body in found] == [(200, b"00"), (200, b"01"), (200, b"02"), (200, b"")]
    assert [asked.body for asked in container.asked] == [b"00", b"01", b"02"]
    assert not {"upgrade", "connection"} & set(container.asked[0].headers)


def test_an_offer_with_a_chunked_body_or_a_refused_request_is_answered_once(one):
    """15.1, 15.4."""
    endpoint, container = one()
    chunked = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + OFFER + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    )
    elsewhere = (REQUEST % (OFFER, b"{}")).replace(b"/invocations", b"/endpoints/other/invocations")
    ping = b"GET /ping HTTP/1.1\r\nHost: x\r\n" + OFFER + b"\r\n"
    found = exchange(endpoint, chunked, elsewhere, ping)
    assert [status for status, _, _ in found] == [200, 400, 200, 200]
    assert [asked.body for asked in container.asked] == [b"ab"]


def test_a_tunnel_through_the_router_is_refused_once(one):
    """15.4."""
    endpoint, _ = one()
    with endpoint.connect() as client:
        client.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        got = b""
        while data := client.recv(4096):
            got += data
    assert got.startswith(b"HTTP/1.1 404 ")
    assert got.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", [b"/ping", b"/metrics", b"/invocations", b"/nothing"])
def test_an_answer_to_head_has_no_body(one, path):
    """14.2."""
    endpoint, _ = one()
    found = exchange(endpoint, b"HEAD %b HTTP/1.1\r\nHost: x\r\n\r\n" % path, methods=["HEAD"])
    assert [body for _, _, body in found] == [b"", b""]
    assert found[1][0] == 200


def test_an_http_1_0_client_that_wants_to_stay_is_told_that_it_may(one):
    """15.1."""
    endpoint, _ = one()
    request = (
        b"POST /invocations HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
    )
    found = exchange(endpoint, request, request)
    assert [(status, body) for status, _, body in found[:2]] == [(200, b"ab"), (200, b"ab")]
    assert found[0][1]["Connection"] == "keep-alive"


@pytest.mark.parametrize("path", ["invocations-response-stream", "openai/v1/chat/completions"])
def test_a_stream_to_a_client_that_closes_says_that_it_is_the_connections_last_answer(one, path):
    """15.11, 15.13."""
    endpoint, _ = one()
    _, headers, _ = endpoint.post(f"/endpoints/digits/{path}", b"x", Connection="close")
    assert (headers["Transfer-Encoding"], headers["Connection"]) == ("chunked", "close")
    assert "Connection" not in endpoint.post(f"/endpoints/digits/{path}", b"x")[1]


def test_a_container_without_content_gives_an_answer_without_a_body(one):
    """15.1, 15.11."""
    endpoint, _ = one(_no_content)
    stream = b"POST /endpoints/digits/invocations-response-stream HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    chat = stream.replace(b"invocations-response-stream", b"openai/v1/chat/completions")
    found = exchange(endpoint, REQUEST % (b"", b"{}"), stream, chat)
    assert [(status, body) for status, _, body in found] == [(204, b""), (200, b""), (200, b""), (200, b"")]
    assert "Content-Length" not in found[0][1]


async def _no_content(asked, writer):
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 99999999999999999999999\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Type: text/csv;\r\n header=present\r\nContent-Length: 2\r\n",
    ],
)
def test_a_body_whose_end_is_in_doubt_is_refused_and_reaches_no_container(one, framing):
    """15.4."""
    endpoint, container = one()
    with endpoint.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n2\r\n{}\r\n0\r\n\r\n" + LAST)
        got = b""
        try:
            while data := client.recv(4096):
                got += data
        except ConnectionResetError:  # it was closed with bytes of ours unread
            pass
    assert got.startswith(b"HTTP/1.1 400 ")
    assert got.count(b"HTTP/1.1 ") == 1 + got.count(b"not HTTP/1.1 ")
    assert not container.asked


def test_a_request_byte_by_byte_is_one_request(one):
    """15.1."""
    endpoint, container = one()
    with endpoint.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in REQUEST % (b"Content-Type: text/csv\r\n", b"ab") + LAST:
            client.sendall(bytes([byte]))
        got = b""
        while data := client.recv(4096):
            got += data
    assert got.count(b"HTTP/1.1 200") == 2
    assert [(asked.body, asked.headers["content-type"]) for asked in container.asked] == [(b"ab", "text/csv")]


def test_idle_connections_hold_nobody_up(one):
    """14.4."""
    endpoint, _ = one()
    # Each is two files here, where the client and the router are one process; 256 may be all that it gets.
    count = min(200, (allow_open_files() - 96) // 4)
    idle = [endpoint.connect() for _ in range(count)]
    half = [endpoint.connect() for _ in range(count)]
    try:
        for client in half:
            client.sendall(b"POST /invocations HTTP/1.1\r\nContent-Le")
        assert endpoint.post(body=b"ab")[2] == b"ab"
        half[0].sendall(b"ngth: 2\r\n\r\nab")
        assert half[0].recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in (*idle, *half):
            client.close()
    assert endpoint.post(body=b"cd")[2] == b"cd"


def test_a_long_path_is_not_repeated(one):
    """15.4."""
    endpoint, _ = one()
    assert len(endpoint.post(path="/" + "a" * 30_000)[2]) < 400

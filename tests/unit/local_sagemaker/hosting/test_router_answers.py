"""Containers whose answers are not what HTTP says they should be: the client hears of it, or is not harmed."""

import json

import pytest

from tests.unit.local_sagemaker.hosting.containers import STREAM_HEAD, always, answer, chunk

OK = b"HTTP/1.1 200 OK\r\n"
STREAM = "/endpoints/digits/invocations-response-stream"
CHAT = "/endpoints/digits/openai/v1/chat/completions"
EVERY_WAY = ["/invocations", STREAM, CHAT]


def then_close(data):
    async def handler(asked, writer):
        writer.write(data)
        await writer.drain()
        writer.close()

    return handler


@pytest.mark.parametrize("path", EVERY_WAY)
@pytest.mark.parametrize("half", [OK + b"Content-Type: te", OK, b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_that_ends_in_its_head_is_a_model_error(one, half, path):
    """15.4, 15.12."""
    endpoint, container = one(then_close(half))
    status, _, body = endpoint.post(path)
    assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 0)
    assert len(container.asked) == 1


@pytest.mark.parametrize("path", ["/invocations", CHAT])
@pytest.mark.parametrize(
    "more",
    [b"llo", answer(b"another one", status=500, content_type="text/evil"), b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["longer than said", "a second answer", "an interim answer"],
)
def test_what_comes_behind_an_answer_is_nobodys(one, more, path):
    """15.1, 15.8."""
    endpoint, container = one(always(OK + b"Content-Type: text/csv\r\nContent-Length: 2\r\n\r\nhe" + more))
    for _ in range(3):
        status, headers, body = endpoint.post(path)
        assert (status, headers["Content-Type"], body) == (200, "text/csv", b"he")
    assert container.connections == 3


def test_interim_answers_are_no_answers(one):
    """15.1."""
    early = b"HTTP/1.1 103 Early Hints\r\nContent-Type: text/evil\r\n\r\n"
    endpoint, container = one(
        always(b"HTTP/1.1 100 Continue\r\n\r\n" + early * 3 + answer(b"ab", content_type="text/csv"))
    )
    for _ in range(3):
        _, headers, body = endpoint.post()
        assert (headers["Content-Type"], body) == ("text/csv", b"ab")
    assert container.connections == 1


def test_trailers_change_no_header(one):
    """15.8."""
    trailers = b"0\r\nContent-Type: text/evil\r\nX-Amzn-SageMaker-Custom-Attributes: late\r\n\r\n"
    endpoint, container = one(always(STREAM_HEAD + chunk(b"ab") + trailers))
    for _ in range(2):
        _, headers, body = endpoint.post()
        assert (headers["Content-Type"], body) == ("text/event-stream", b"ab")
        assert "X-Amzn-SageMaker-Custom-Attributes" not in headers
    assert container.connections == 1


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: -2\r\n",
        b"Bad Header: x\r\nContent-Length: 2\r\n",
        b"X: a\x01b\r\nContent-Length: 2\r\n",
    ],
)
def test_an_answer_whose_head_is_in_doubt_is_a_model_error(one, head):
    """15.4."""
    endpoint, _ = one(always(OK + head + b"\r\nok"))
    status, _, body = endpoint.post()
    assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 0)
    assert "not HTTP" in json.loads(body)["OriginalMessage"]


def test_a_long_error_in_many_parts_is_whole(one):
    """15.13."""
    said = b"".join(b"%04d" % number for number in range(500))
    parts = b"".join(chunk(said[place : place + 4]) for place in range(0, len(said), 4))
    head = b"HTTP/1.1 400 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    endpoint, _ = one(always(head + parts + b"0\r\n\r\n"))
    assert endpoint.post(CHAT)[::2] == (400, said)
    assert json.loads(endpoint.post(STREAM)[2])["OriginalMessage"] == said.decode()


def test_a_compressed_answer_is_passed_on_by_its_bytes(one):
    """15.8."""
    endpoint, _ = one(always(answer(b"\x1f\x8b\x08\x00zipped", content_encoding="gzip", content_type="text/csv")))
    _, headers, body = endpoint.post(Accept_Encoding="gzip")
    assert body == b"\x1f\x8b\x08\x00zipped"
    assert "Content-Encoding" not in headers

"""What goes in and comes out of /invocations: formats, their names, and the errors that name the problem."""

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.support.http import Reply, request
from tests.support.serving import Endpoint

ROWS = [[1.0, 2.5], [3.0, -4.0]]


def npy(value: object, **options: bool) -> bytes:
    """The value as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value), **options)  # type: ignore[arg-type]
    return buffer.getvalue()


BODIES = {
    "application/json": json.dumps(ROWS).encode(),
    "application/jsonlines": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    "text/csv": b"1.0,2.5\n3.0,-4.0\n",
    "application/x-npy": npy(ROWS),
}


def rows(reply: Reply) -> list[list[float]]:
    """Read an answer independently of the codecs under test."""
    match reply.content_type:
        case "application/json":
            value = reply.json
        case "application/jsonlines":
            value = [json.loads(line) for line in reply.body.splitlines()]
        case "text/csv":
            value = [[float(cell) for cell in line.split(",")] for line in reply.body.decode().splitlines()]
        case "application/x-npy":
            value = np.load(io.BytesIO(reply.body), allow_pickle=False)
        case other:
            raise AssertionError(f"unexpected content type {other!r}: {reply}")
    result: list[list[float]] = np.asarray(value, dtype=float).tolist()
    return result


@pytest.mark.parametrize("accept", BODIES)
@pytest.mark.parametrize("content_type", BODIES)
def test_every_format_goes_in_and_every_format_comes_out(echoing: Endpoint, content_type: str, accept: str) -> None:
    """15.1."""
    reply = echoing.invoke(BODIES[content_type], content_type, accept)
    assert reply.status == 200, reply
    assert reply.content_type == accept
    assert rows(reply) == ROWS


@pytest.mark.parametrize(
    ("sent", "means"),
    [
        ("text/csv; charset=utf-8", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv;header=absent", "text/csv"),
        ("application/json; charset=UTF-8", "application/json"),
        ('application/json; profile="a;b"', "application/json"),
        ("application/x-ndjson", "application/jsonlines"),
        ("application/jsonlines;charset=utf-8", "application/jsonlines"),
        ("application/x-jsonlines", "application/jsonlines"),
    ],
)
def test_parameters_case_and_aliases_of_a_content_type_are_understood(echoing: Endpoint, sent: str, means: str) -> None:
    """15.5, 15.7."""
    reply = echoing.invoke(BODIES[means], sent)
    assert reply.status == 200, reply
    assert rows(reply) == ROWS


def test_charset_of_the_body_is_respected(echoing: Endpoint) -> None:
    """15.7: a text in Latin-1 that says so."""
    reply = echoing.invoke('["größer"]'.encode("latin-1"), "application/json; charset=iso-8859-1")
    assert reply.status == 200, reply
    assert reply.json == ["größer"]


@pytest.mark.parametrize(
    ("accept", "comes"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("TEXT/CSV", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.9", "application/json"),
        ("application/json;q=0.1, text/csv", "text/csv"),
        ("image/png, text/csv;q=0.2", "text/csv"),
        ("image/png, */*;q=0.1", "application/json"),
        ("application/x-npy, application/json;q=0.9", "application/x-npy"),
        ("text/csv, */*;q=0.1", "text/csv"),
    ],
)
def test_accept_is_negotiated(echoing: Endpoint, accept: str | None, comes: str) -> None:
    """15.5, 15.9: q-values, wildcards, several types, and none."""
    reply = echoing.invoke(BODIES["application/json"], accept=accept)
    assert reply.status == 200, reply
    assert reply.content_type == comes
    assert rows(reply) == ROWS


@pytest.mark.parametrize("accept", ["image/png", "image/*", "application/json;q=0", "video/mp4, image/png;q=0.3"])
def test_answer_that_nobody_can_write_is_406_and_names_what_was_asked_and_what_there_is(
    echoing: Endpoint, accept: str
) -> None:
    """15.5."""
    reply = echoing.invoke(BODIES["application/json"], accept=accept)
    assert reply.status == 406, reply
    assert reply.error["type"] == "NotAcceptable"
    assert accept.split(";", maxsplit=1)[0].split(",", maxsplit=1)[0] in reply.error["message"]
    assert "text/csv" in reply.error["message"]


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", "application/x-pickle", "nonsense"])
def test_body_that_nobody_can_read_is_415_and_names_what_was_sent_and_what_there_is(
    echoing: Endpoint, content_type: str
) -> None:
    """15.5."""
    reply = echoing.invoke(b"x", content_type)
    assert reply.status == 415, reply
    assert reply.error["type"] == "UnsupportedContentType"
    assert content_type in reply.error["message"]
    assert "application/json" in reply.error["message"]


def test_absent_content_type_is_answered_or_refused_but_never_a_failure_of_ours(echoing: Endpoint) -> None:
    """15.9: it may be absent; the sources leave open what then."""
    reply = echoing.invoke(BODIES["application/json"], content_type=None)
    assert reply.status in {200, 415}, reply
    if reply.status == 415:
        assert "application/json" in reply.error["message"]
    else:
        assert rows(reply) == ROWS


@pytest.mark.parametrize("content_type", BODIES)
def test_empty_body_is_400(echoing: Endpoint, content_type: str) -> None:
    """15.5."""
    reply = echoing.invoke(b"", content_type)
    assert reply.status == 400, reply
    assert "empty" in reply.error["message"]


@pytest.mark.parametrize(
    ("content_type", "body", "names"),
    [
        ("application/json", b'{"a": [1, 2', "column 12"),
        ("application/json", b"\xff\xfe", "UTF-8"),
        ("application/jsonlines", b"[1]\n[2\n[3]\n", "2"),
        ("application/x-npy", b"not an npy file", "NPY"),
        ("application/x-npy", BODIES["application/x-npy"][:-3], "NPY"),
        ("application/x-npy", b"\x93NUMPY\x01\x00\xff\xff{'descr'", "NPY"),
        ("text/csv", b"\xff\xfe\x81", "UTF-8"),
    ],
    ids=["json", "json bytes", "jsonlines", "npy", "npy cut short", "npy header", "csv bytes"],
)
def test_broken_body_is_400_and_says_what_is_wrong(
    echoing: Endpoint, content_type: str, body: bytes, names: str
) -> None:
    """15.5: nothing of it is our failure, and the message tells where to look."""
    reply = echoing.invoke(body, content_type)
    assert reply.status == 400, reply
    assert names.lower() in reply.error["message"].lower()
    assert b"Traceback" not in reply.body


class _Opens:
    """Pickled, this writes a file as soon as it is read back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_pickled_objects_are_refused_and_never_run(echoing: Endpoint, tmp_path: Path) -> None:
    """A request body is a stranger's: reading it must not run it."""
    trap = tmp_path / "executed"
    body = npy(np.array([_Opens(trap)], dtype=object), allow_pickle=True)
    reply = echoing.invoke(body, "application/x-npy")
    assert reply.status == 400, reply
    assert "pickle" in reply.error["message"]
    assert not trap.exists()


def test_npy_that_claims_to_be_huge_is_400_at_once(echoing: Endpoint) -> None:
    """A header of 100 bytes must not reserve terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64
    reply = echoing.invoke(body, "application/x-npy", seconds=10)
    assert reply.status == 400, reply


@pytest.mark.parametrize("depth", [100_000])
def test_json_nested_beyond_reason_is_400(echoing: Endpoint, depth: int) -> None:
    """Not a failure of ours, and not the end of the worker."""
    reply = echoing.invoke(b"[" * depth + b"]" * depth)
    assert reply.status == 400, reply.status
    assert echoing.ping().status == 200


@pytest.mark.parametrize("value", [b"NaN", b"[Infinity]", b"[-Infinity]"])
def test_json_answers_are_json_that_everyone_reads(echoing: Endpoint, value: bytes) -> None:
    """NaN is no JSON: it is refused, or answered as null, but never sent on."""
    reply = echoing.invoke(value)
    assert reply.status in {200, 400, 500}
    json.loads(reply.body, parse_constant=lambda name: pytest.fail(f"{name} in a JSON answer: {reply.body!r}"))


@pytest.mark.parametrize("content_type", ["application/jsonlines", "text/csv"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_one_record_comes_out_for_each_that_went_in(echoing: Endpoint, content_type: str, end: bytes) -> None:
    """15.37: mini-batches of batch transform come with or without a last newline; answers end with one."""
    body = BODIES[content_type].rstrip(b"\n") + end
    reply = echoing.invoke(body, content_type, content_type)
    assert reply.status == 200, reply
    assert reply.body.endswith(b"\n")
    assert len(reply.body.splitlines()) == len(ROWS)


def test_single_csv_row_stays_one_record(echoing: Endpoint) -> None:
    """15.37: one line must not become as many records as it has columns."""
    reply = echoing.invoke(b"1.0,2.5,3.0\n", "text/csv", "text/csv")
    assert len(reply.body.splitlines()) == 1, reply


def test_body_of_30_megabytes_is_accepted(echoing: Endpoint) -> None:
    """15.3: the guide's 25 MB, and more."""
    body = npy(np.ones((30, 131_072), dtype="float64"))
    reply = echoing.invoke(body, "application/x-npy", "application/x-npy")
    assert reply.status == 200, reply.status
    assert reply.body == body


def test_body_in_chunks_is_accepted(echoing: Endpoint) -> None:
    """15.36: batch transform without a payload limit sends chunks and no length."""
    body = BODIES["application/json"]
    reply = echoing.invoke(iter([body[:5], body[5:11], body[11:]]))
    assert reply.status == 200, reply
    assert rows(reply) == ROWS


def test_large_body_in_chunks_is_accepted(echoing: Endpoint) -> None:
    """15.36."""
    body = npy(np.zeros((8, 131_072)))
    pieces = (body[at : at + 1_000_000] for at in range(0, len(body), 1_000_000))
    reply = echoing.invoke(pieces, "application/x-npy", "application/x-npy")
    assert reply.status == 200, reply.status
    assert reply.body == body


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_ping_answers_each_method_the_guide_mentions(echoing: Endpoint, method: str) -> None:
    """14.2, 14.3."""
    assert echoing.ping(method).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/", "/execution-parameters/x", "/v1/chat/completions"])
def test_path_that_is_not_served_is_a_cheap_404(echoing: Endpoint, path: str) -> None:
    """15.14: a scraper asks each minute; no trace, no page of HTML."""
    reply = request(echoing.port, "GET", path)
    assert reply.status == 404, reply
    assert len(reply.body) < 1000
    assert "Traceback" not in echoing.log


def test_reading_invocations_is_405(echoing: Endpoint) -> None:
    """15.1: POST only."""
    assert request(echoing.port, "GET", "/invocations").status == 405


def test_headers_of_the_platform_are_no_obstacle(echoing: Endpoint) -> None:
    """15.6, 15.7."""
    headers = {
        "X-Amzn-SageMaker-Custom-Attributes": "x" * 1024,
        "X-Amzn-SageMaker-Inference-Id": "id-1",
        "X-Amzn-SageMaker-Something-New": "1",
    }
    assert echoing.invoke(BODIES["application/json"], headers=headers).status == 200


def test_many_requests_on_many_connections_are_each_answered_with_their_own(echoing: Endpoint) -> None:
    """15.1: answers never cross."""
    from concurrent.futures import ThreadPoolExecutor

    def ask(number: int) -> object:
        return echoing.invoke(json.dumps([number]).encode()).json

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(200))) == [[number] for number in range(200)]


def test_nothing_of_all_this_was_an_alarm_for_the_log(echoing: Endpoint) -> None:
    """A caller's mistake is answered to the caller; a log that cries for it hides our own."""
    echoing.invoke(b"{", "application/json")
    assert "Traceback" not in echoing.log
    assert os.path.exists(f"/proc/{echoing.process.pid}")  # noqa: PTH110

"""What goes in and comes out of /invocations: formats, their names, and the errors that name the problem."""

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support.http import Reply, request
from tests.support.serving import Endpoint

ROWS = [[1.0, 2.5], [3.0, -4.0]]


def npy(value: object, **options: bool) -> bytes:
    """The value as the bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value), **options)
    return buffer.getvalue()


def npz(value: object) -> bytes:
    """The value as the bytes of an .npz file with one array."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=np.asarray(value))
    return buffer.getvalue()


def table(value: list[list[float]]) -> pa.Table:
    """The value as a table of two columns."""
    return pa.table({f"x{at}": list(column) for at, column in enumerate(zip(*value, strict=True))})


def arrow(value: list[list[float]], kind: str) -> bytes:
    """The value as an Arrow stream or file."""
    sink = pa.BufferOutputStream()
    made = table(value)
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(sink, made.schema) as writer:
        writer.write_table(made)
    return bytes(sink.getvalue())


def parquet(value: list[list[float]]) -> bytes:
    """The value as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table(value), buffer)
    return buffer.getvalue()


# The rows as write_numpy_to_dense_tensor of the SageMaker SDK 2 writes them, in 32-bit floats.
RECORDIO = bytes.fromhex(
    "0a23d7ce180000000a160a0676616c756573120c120a0a080000803f00002040"
    "0a23d7ce180000000a160a0676616c756573120c120a0a0800004040000080c0"
)
TABLES = (
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.parquet",
)
BODIES = {
    "application/json": json.dumps(ROWS).encode(),
    "application/jsonlines": b"".join(json.dumps(row).encode() + b"\n" for row in ROWS),
    "text/csv": b"1.0,2.5\n3.0,-4.0\n",
    "application/x-npy": npy(ROWS),
    "application/x-npz": npz(ROWS),
    "application/x-recordio-protobuf": RECORDIO,
    "application/vnd.apache.arrow.stream": arrow(ROWS, "stream"),
    "application/vnd.apache.arrow.file": arrow(ROWS, "file"),
    "application/vnd.apache.parquet": parquet(ROWS),
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
        case "application/x-npz":
            (value,) = np.load(io.BytesIO(reply.body), allow_pickle=False).values()
        case "application/x-recordio-protobuf":
            value = [struct.unpack("<2f", reply.body[at + 23 : at + 31]) for at in range(0, len(reply.body), 32)]
        case "application/vnd.apache.arrow.stream":
            value = pa.ipc.open_stream(reply.body).read_all()
        case "application/vnd.apache.arrow.file":
            value = pa.ipc.open_file(reply.body).read_all()
        case "application/vnd.apache.parquet":
            value = pq.read_table(io.BytesIO(reply.body))
        case other:
            raise AssertionError(f"unexpected content type {other!r}: {reply}")
    if isinstance(value, dict) and list(value) == ["values"]:
        value = value["values"]  # what was sent as NPZ keeps its name
    if isinstance(value, list) and isinstance(value[0], dict):
        value = [list(row.values()) for row in value]  # a table's rows keep their names
    result: list[list[float]] = np.asarray(value, dtype=float).tolist()
    return result


NAMED = ("application/x-npz", *TABLES)


@pytest.mark.parametrize(
    ("content_type", "accept"),
    [
        (content_type, accept)
        for content_type in BODIES
        for accept in BODIES
        # What has names is written with them: arrays are no rows, and columns are labels of their own.
        if content_type not in NAMED
        or accept in ("application/json", content_type)
        or {content_type, accept} <= {*TABLES}
    ],
)
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
        ("text/html, image/webp, image/png, */*;q=0.8", "application/json"),
        ("application/vnd.apache.parquet, text/csv;q=0.1", "application/vnd.apache.parquet"),
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


@pytest.mark.parametrize("accept", ["image/tiff", "audio/*", "application/json;q=0", "video/mp4, font/otf;q=0.3"])
def test_answer_that_nobody_can_write_is_406_and_names_what_was_asked_and_what_there_is(
    echoing: Endpoint, accept: str
) -> None:
    """15.5."""
    reply = echoing.invoke(BODIES["application/json"], accept=accept)
    assert reply.status == 406, reply
    assert reply.error["type"] == "NotAcceptable"
    assert accept.split(";", maxsplit=1)[0].split(",", maxsplit=1)[0] in reply.error["message"]
    assert "text/csv" in reply.error["message"]


@pytest.mark.parametrize("content_type", ["image/tiff", "multipart/form-data", "application/x-pickle", "nonsense"])
def test_body_that_nobody_can_read_is_415_and_names_what_was_sent_and_what_there_is(
    echoing: Endpoint, content_type: str
) -> None:
    """15.5."""
    reply = echoing.invoke(b"x", content_type)
    assert reply.status == 415, reply
    assert reply.error["type"] == "UnsupportedContentType"
    assert content_type in reply.error["message"]
    assert "application/json" in reply.error["message"]


def test_absent_content_type_is_415_and_said_to_be_absent(echoing: Endpoint) -> None:
    """15.9: it may be absent; bytes are for those who say so, and a model of numbers would only fail on them."""
    reply = echoing.invoke(BODIES["application/json"], content_type=None)
    assert reply.status == 415, reply
    assert "no Content-Type" in reply.error["message"]
    assert "application/json" in reply.error["message"]


def test_prediction_that_the_asked_type_cannot_hold_is_406(echoing: Endpoint) -> None:
    """15.5: scores are no picture."""
    reply = echoing.invoke(BODIES["application/json"], accept="image/png")
    assert reply.status == 406, reply
    assert "picture" in reply.error["message"]


@pytest.mark.parametrize("accept", ["image/png", "application/x-npy", "application/json"])
def test_image_is_its_pixels(echoing: Endpoint, accept: str) -> None:
    """15.1: height by width by channels, there and back."""
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    reply = echoing.invoke(body.getvalue(), "image/png", accept)
    assert reply.status == 200, reply
    match reply.content_type:
        case "image/png":
            read = np.asarray(Image.open(io.BytesIO(reply.body)))
        case "application/x-npy":
            read = np.load(io.BytesIO(reply.body), allow_pickle=False)
        case _:
            read = np.asarray(reply.json)
    assert np.array_equal(read, pixels)


@pytest.mark.parametrize(
    ("content_type", "accept"),
    [
        ("application/octet-stream", "*/*"),
        ("audio/wav", "application/octet-stream"),
        ("video/mp4", "text/csv, */*;q=0.1"),
    ],
)
def test_bytes_are_bytes(echoing: Endpoint, content_type: str, accept: str) -> None:
    """15.1: of every value, and white space too."""
    for body in (bytes(range(256)), b"\xff\n"):
        reply = echoing.invoke(body, content_type, accept)
        assert (reply.status, reply.content_type, reply.body) == (200, "application/octet-stream", body), reply


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
        ("application/x-npz", BODIES["application/x-npz"][:-30], "NPZ"),
        ("application/x-recordio-protobuf", RECORDIO[:-9], "within a record"),
        ("application/x-recordio-protobuf", RECORDIO.replace(b"\xce\x18", b"\xce\x17"), "RecordIO"),
        ("application/vnd.apache.arrow.stream", BODIES["application/vnd.apache.arrow.stream"][:-90], "Arrow"),
        ("application/vnd.apache.arrow.file", b"ARROW2\0\0", "ARROW1"),
        ("application/vnd.apache.parquet", b"PAR1PAR1", "Parquet"),
        ("image/jpeg", b"\xff\xd8\xff\xe0", "JPEG"),
    ],
    ids=[
        "json",
        "json bytes",
        "jsonlines",
        "npy",
        "npy cut short",
        "npy header",
        "csv bytes",
        "npz cut short",
        "recordio cut short",
        "recordio frame",
        "arrow cut short",
        "arrow file",
        "parquet",
        "jpeg",
    ],
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


def test_bomb_is_400_at_once_and_costs_the_worker_nothing(echoing: Endpoint) -> None:
    """15.5: 5 kilobytes of zeros that would be gigabytes."""
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"zeros": np.zeros(2**23)})
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(32):
            writer.write_batch(batch)
    body = bytes(sink.getvalue())
    assert len(body) < 200_000
    reply = echoing.invoke(body, "application/vnd.apache.arrow.stream", seconds=10)
    assert reply.status == 400, reply
    assert "memory" in reply.error["message"]


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


@pytest.mark.parametrize("path", ["/metrics/x", "/", "/execution-parameters/x", "/v1/chat/completions"])
def test_path_that_is_not_served_is_a_cheap_404(echoing: Endpoint, path: str) -> None:
    """15.14: whoever scans asks often; no trace, no page of HTML."""
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

"""What strangers may send: nothing of it ends in an error of ours, in a hang, in another caller's answer, or in growth.

HYGIENE_REQUESTS in the environment says how many made-up requests each kind of server gets.
"""

import io
import json
import os
import pickle
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from sagemaker_byoc.serving.nginx import HEADERS_MODULE

from tests.support.corpus import (
    CORPUS,
    EITHER,
    JSON,
    POST,
    PROTOCOL_STATUSES,
    SMUGGLED,
    RawRequest,
    Received,
    exchange,
    exchange_or_end,
)
from tests.support.http import request
from tests.support.opt_ml import OptMl
from tests.support.places import CONTAINER
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
REQUESTS = int(os.environ.get("HYGIENE_REQUESTS", "500"))
LANES = [pytest.param("wsgi", id="wsgi"), pytest.param("asgi", id="asgi")]
KINDS = [
    pytest.param(f"{lane}-{front}", marks=[pytest.mark.nginx] if front == "nginx" else [])
    for lane in ("wsgi", "asgi")
    for front in ("nginx", "alone", "python-parser")
]
OURS = re.compile(rb"Traceback|sagemaker_byoc|site-packages|/opt_ml/|gunicorn|nginx|Werkzeug", re.IGNORECASE)
NAMED = b"" if HEADERS_MODULE.exists() else b"Server: nginx\r\n"  # without the module nginx insists on its name


@dataclass(frozen=True)
class Holdings:
    """What an endpoint's processes hold together."""

    memory_mb: float
    files: int
    threads: int


class Endpoints:
    """One endpoint of each kind, started when it is asked for first."""

    def __init__(self, folder: Path, program: str, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._found: dict[str, Endpoint] = {}
        self._tree = OptMl.make(folder / "opt_ml")
        self._tree.model_code(program)
        hidden = folder / "hidden"
        hidden.mkdir()
        (hidden / "gunicorn_h1c.py").write_text("raise ImportError('hidden')\n")
        self._python_parser = {"PYTHONPATH": os.pathsep.join([str(hidden), str(CONTAINER)])}

    def __getitem__(self, kind: str) -> Endpoint:
        if kind not in self._found:
            lane, _, front = kind.partition("-")
            env = {"BYOC_LANE": lane, "BYOC_NGINX": "on" if front == "nginx" else "off"}
            env |= self._python_parser if front == "python-parser" else {}
            endpoint = self._stack.enter_context(Endpoint(self._tree, self._folder / f"{kind}.log", env))
            self._found[kind] = endpoint.wait_until_ready()
        return self._found[kind]


@pytest.fixture(scope="module")
def obeying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Endpoints that do what they are told."""
    with ExitStack() as stack:
        yield Endpoints(tmp_path_factory.mktemp("obeying"), "does_what_it_is_told", stack)


@pytest.fixture(scope="module")
def describing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Endpoints whose function never fails."""
    with ExitStack() as stack:
        yield Endpoints(tmp_path_factory.mktemp("describing"), "describes_any_input", stack)


@pytest.mark.parametrize("kind", KINDS)
def test_a_malformed_request_is_refused_and_harms_nobody(obeying: Endpoints, kind: str) -> None:
    """15.1, 15.5, 15.6: in both lanes, with nginx and without, with both parsers: the same verdict."""
    endpoint = obeying[kind]
    before = len(endpoint.log)  # other tests ask the same endpoint
    faults = [fault for raw in CORPUS for fault in faults_of(endpoint, raw)]
    assert not faults, "\n".join(faults)
    said = endpoint.log[before:]
    assert "predicting" not in said, "a request inside another one was answered"
    assert "Traceback" not in said


def faults_of(endpoint: Endpoint, raw: RawRequest) -> Iterator[str]:
    """What is wrong with an endpoint's answer to a request, and with its answers to other callers after it."""
    try:
        received = exchange(endpoint.port, raw.sent, raw.ends, raw.answers)
    except (TimeoutError, ValueError) as error:
        yield f"{raw.name}: {error!r}"
    else:
        if raw.verdict not in (EITHER, received.verdict):
            yield f"{raw.name}: {received.statuses} is not {raw.verdict}"
        if len(received.statuses) > raw.answers:
            yield f"{raw.name}: {len(received.statuses)} answers"
        yield from (f"{raw.name}: {fault}" for fault in unfit(received))
    for number in range(2):
        reply = endpoint.invoke(json.dumps([raw.name, number]).encode(), seconds=10)
        if reply.status != 200 or reply.json != [raw.name, number]:
            yield f"{raw.name}: the next caller gets {reply}"


def unfit(received: Received) -> Iterator[str]:
    """What no answer may have, whatever was asked."""
    if any(status >= 500 and status not in PROTOCOL_STATUSES for status in received.statuses):
        yield f"{received.statuses}: {received.data!r}"
    found = OURS.search(received.data.replace(NAMED, b"") if NAMED else received.data)
    if found:
        yield f"{found[0]!r} in {received.data!r}"


# Requests that nobody has thought of


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


TYPES = {
    "application/json": b'{"instances": [[1, 2.5], [3, null]]}',
    "application/jsonlines": b'{"a": 1}\n{"a": 2}\n',
    "text/csv": b'1,2,"3"\n4,5,6\n',
    "text/plain": b"words",
    "application/octet-stream": b"\x00\x01",
    "application/x-npy": npy(np.arange(6.0)),
    "application/x-npz": npz(a=np.arange(6.0)),
    "application/x-recordio-protobuf": bytes.fromhex("0a23d7ce00000000"),
    "application/vnd.apache.arrow.stream": b"\xff\xff\xff\xff\x10\x00\x00\x00",
    "application/x-parquet": b"PAR1\x00\x00\x00\x00PAR1",
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00",
    "multipart/form-data; boundary=x": b"--x\r\n\r\n--x--",
}
PATHS = ("/invocations", "/ping", "/metrics", "/execution-parameters", "/openapi.json", "/models", "/", "/x/../y?z=%")
tokens = st.text(st.sampled_from("abcXYZ-_!#~019"), min_size=1, max_size=12).map(str.encode)
values = st.binary(max_size=40).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))
mutations = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(("cut", "put", "change", "repeat")), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    """The same with some bytes cut out, put in, changed or repeated."""
    for where, how, what in changes:
        place = int(where * len(data))
        before, after = data[:place], data[place:]
        cut = after[len(what) :]
        data = {
            "cut": before + cut,
            "put": before + what + after,
            "change": before + what + cut,
            "repeat": before + after[:30] * 2 + after[30:],
        }[how]
    return data


@st.composite
def whole_requests(draw: st.DrawFn) -> bytes:
    """A request that is HTTP, with anything in it."""
    kind, body = draw(st.sampled_from(sorted(TYPES.items())))
    body = mutate(body, draw(mutations)) if draw(st.booleans()) else body
    kind = draw(st.sampled_from([kind, *TYPES])) if draw(st.booleans()) else kind
    method = draw(st.sampled_from((b"POST", b"POST", b"POST", b"GET", b"PUT", b"DELETE", b"OPTIONS", b"HEAD")))
    path = draw(st.one_of(st.just("/invocations"), st.sampled_from(PATHS))).encode()
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: here", b"Connection: close"]
    lines += [b"Content-Type: " + kind.encode(), b"Content-Length: %d" % len(body)]
    lines += [b"X-%b: %b" % pair for pair in draw(st.lists(st.tuples(tokens, values), max_size=3))]
    for name in (b"Accept", b"X-Amzn-SageMaker-Inference-Id", b"X-Amzn-SageMaker-Custom-Attributes", b"traceparent"):
        if draw(st.booleans()):
            lines.append(name + b": " + draw(st.one_of(values, st.sampled_from(sorted(TYPES)).map(str.encode))))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


broken_requests = st.builds(
    mutate,
    st.sampled_from([raw.sent for raw in CORPUS if len(raw.sent) < 4000]),
    mutations,
)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "python" not in kind.values[0]])
def test_made_up_requests_neither_fail_nor_hang_nor_grow(describing: Endpoints, kind: str) -> None:
    """15.1, 15.5."""
    endpoint = describing[kind]
    after: list[Holdings] = []
    seen = [0]

    @hypothesis.settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        derandomize=REQUESTS <= 500,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.one_of(whole_requests(), broken_requests))
    def ask(sent: bytes) -> None:
        received = exchange_or_end(endpoint.port, sent)
        faults = list(unfit(received))
        assert not faults, (sent, faults)
        seen[0] += 1
        if seen[0] in (REQUESTS // 5, REQUESTS * 4 // 5):
            after.append(holdings(endpoint))

    workers = endpoint.workers()
    ask()
    early, late = after
    print(f"{kind}: {seen[0]} requests, {early} -> {late}")
    assert late.memory_mb < early.memory_mb * 1.1 + 10
    assert late.files <= early.files + 10
    assert late.threads <= early.threads + 10
    assert endpoint.workers() == workers, "a worker has ended"
    assert endpoint.invoke(b"[1]").status == 200
    assert "the runtime failed" not in endpoint.log


def test_paths_and_methods_that_strangers_make_up_leave_nothing_behind(describing: Endpoints) -> None:
    """15.14: no label of /metrics is theirs, and no memory is kept for them."""
    for kind in ("wsgi-alone", "asgi-alone"):
        endpoint = describing[kind]

        def ask_for(first: int, count: int, port: int = endpoint.port) -> None:
            for number in range(first, first + count):
                path = b"/invocations/%d?%d" % (number, number) if number % 2 else b"/%d" % number
                sent = b"M%d %b HTTP/1.1\r\nHost: h%d\r\nConnection: close\r\n\r\n" % (number, path, number)
                assert exchange(port, sent).statuses[0] in (400, 404, 405)

        ask_for(0, 200)
        series, held = names_of_series(endpoint), holdings(endpoint)
        ask_for(1000, REQUESTS)
        assert names_of_series(endpoint) == series
        assert holdings(endpoint).memory_mb < held.memory_mb + 10


def names_of_series(endpoint: Endpoint) -> set[str]:
    lines = request(endpoint.port, "GET", "/metrics").body.decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def holdings(endpoint: Endpoint) -> Holdings:
    """Memory is what no file backs: pages of libraries count by how many other processes have them."""
    family = [process.pid for process in endpoint.family()]
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in family]
    memory = sum(int(re.search(r"^Anonymous:\s+(\d+)", text, re.MULTILINE)[1]) for text in rollups) / 1024
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in family)
    threads = sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in family)
    return Holdings(memory, files, threads)


# Bodies that are more than they seem


class Opens:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, "w")


@pytest.mark.parametrize("lane", LANES)
def test_no_pickle_of_a_request_is_opened(serve: Serve, lane: str, tmp_path: Path) -> None:
    """15.5: neither bare nor inside of NPY or NPZ."""
    made = tmp_path / "made"
    objects = np.array([Opens(made)], dtype=object)
    with serve("describes_any_input", {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        for kind, body in (
            ("application/x-npy", npy(objects)),
            ("application/x-npz", npz(a=objects)),
            ("application/x-npy", pickle.dumps(Opens(made))),
            ("application/x-npz", pickle.dumps(Opens(made))),
            ("application/python-pickle", pickle.dumps(Opens(made))),
            ("application/x-pickle", pickle.dumps(Opens(made))),
        ):
            assert endpoint.invoke(body, kind).status in (400, 415)
        assert not made.exists()


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small bodies that become 256 MB, or say that they will."""
    import pyarrow as pa
    from pyarrow import parquet

    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 28,)})
        member.write(head.getvalue())
        for _ in range(16):
            member.write(bytes(1 << 24))
    yield "application/x-npz", zeros.getvalue()
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (1 << 40,)})
    yield "application/x-npy", head.getvalue()
    table = io.BytesIO()
    column = pa.array(np.zeros(1 << 25, dtype="int64"))
    parquet.write_table(pa.table({"a": column}), table, compression="zstd", use_dictionary=False)
    yield "application/x-parquet", table.getvalue()
    yield "image/png", png_of_zeros(1 << 14, 1 << 14)


def png_of_zeros(width: int, height: int) -> bytes:
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    packer = zlib.compressobj(6)
    rows = b"".join([*(packer.compress(bytes(width + 1)) for _ in range(height)), packer.flush()])
    head = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x00\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("lane", LANES)
def test_a_body_that_unpacks_to_more_than_may_be_is_refused_before_it_does(
    opt_ml: OptMl, tmp_path: Path, lane: str
) -> None:
    """15.5: BYOC_MAX_DECODED_MB."""
    opt_ml.model_code("describes_any_input")
    env = {"BYOC_LANE": lane, "BYOC_NGINX": "off", "BYOC_MAX_DECODED_MB": "64"}
    with Endpoint(opt_ml, tmp_path / "serve.log", env) as endpoint:
        endpoint.wait_until_ready()
        (worker,) = endpoint.workers()
        for kind, body in bombs():
            assert len(body) < 4 << 20
            before = peak_mb(worker)
            reply = endpoint.invoke(body, kind)
            assert reply.status == 400, (kind, reply)
            assert reply.error["type"] == "MalformedBody"
            print(f"{kind}: {len(body)} bytes, {peak_mb(worker) - before:.0f} MB more at the peak")
            assert peak_mb(worker) - before < 150, kind
        assert endpoint.workers() == {worker}


def peak_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024


@pytest.mark.parametrize("lane", LANES)
def test_a_body_over_the_limit_is_refused_before_it_is_read(serve: Serve, lane: str) -> None:
    """15.3: told by its length at once, or in chunks as soon as there are too many."""
    with serve("describes_any_input", {"BYOC_LANE": lane, "BYOC_MAX_REQUEST_MB": "1"}) as endpoint:
        endpoint.wait_until_ready()
        told = exchange(endpoint.port, POST + b"Content-Length: 1048577\r\n\r\n")
        assert told.statuses == [413]
        assert b"the request body is larger than 1 MB (BYOC_MAX_REQUEST_MB)" in told.data
        piece = b"10000\r\n" + b"1" * 0x10000 + b"\r\n"
        chunked = exchange(endpoint.port, POST + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 17)
        assert chunked.statuses == [413]
        assert endpoint.invoke(b"1" * (1 << 20), "text/plain").status == 200


# What is told to whom


@pytest.mark.parametrize("lane", LANES)
def test_no_failure_shows_a_caller_more_than_a_sentence(serve: Serve, lane: str) -> None:
    """15.4: whatever is raised; the trace is for the log."""
    kinds = ["plain", "lines", "group", "cause", "unspeakable", "exit", "recursion", "memory", "stop"]
    with serve("fails_as_told", {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        for kind in (*kinds, "unencodable", "surrogate"):
            body = json.dumps({"fail": kind}).encode()
            received = exchange(endpoint.port, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert received.statuses in ([500], [400]), (kind, received)
            content = received.data.partition(b"\r\n\r\n")[2]
            assert set(json.loads(content)) == {"error"}, (kind, content)
            assert not re.search(rb"Traceback|File \\?\"|sagemaker_byoc|site-packages|/opt_ml/", content), content
        assert endpoint.invoke(b"{}").status == 200


@pytest.mark.parametrize("lane", LANES)
def test_a_function_cannot_be_brought_to_split_its_answer(serve: Serve, lane: str) -> None:
    """15.8: a caller's text that a function puts into a header stays in it, or fails."""
    split = "a\r\nX-Evil: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with serve("fails_as_told", {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        for told in (
            {"header": "X-Model", "value": split},
            {"header": "X-Model", "value": "a\nX-Evil: 1"},
            {"header": "X-Model\r\nX-Evil", "value": "1"},
            {"header": "Transfer-Encoding", "value": "chunked"},
            {"header": "Content-Length", "value": "0"},
            {"header": "Connection", "value": "X-Evil"},
            {"attributes": split},
            {"attributes": "é\0"},
        ):
            body = json.dumps(told).encode()
            received = exchange(endpoint.port, POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            head, _, content = received.data.partition(b"\r\n\r\n")
            assert received.statuses == [500], (told, received)
            assert b"X-Evil" not in head
            assert json.loads(content)["error"]["type"] == "HandlerError"


@pytest.mark.parametrize("lane", LANES)
def test_whatever_a_header_holds_its_line_of_the_log_stays_one_line_of_json(serve: Serve, lane: str) -> None:
    """15.14."""
    ids = [
        b'a"b',
        b"a\\b",
        b"a\\nb",
        b'", "status": 200, "x": "',
        b"\xc3\xa9",
        b"a\xe2\x80\xa8b",
        b"a\tb",
        b"{}",
        b"%n%s$uri",
    ]
    with serve("echoes", {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        for value in ids:
            header = b"X-Amzn-SageMaker-Inference-Id: " + value + b"\r\nContent-Length: 3\r\n\r\n[1]"
            assert exchange(endpoint.port, POST + header).statuses == [200], value
        for value in (b"\xff\xfe", b"a\rb", b"a\x00b", b"a\nInjected: line", b"\x1b[31m"):
            header = b"X-Amzn-SageMaker-Inference-Id: " + value + b"\r\nContent-Length: 3\r\n\r\n[1]"
            exchange(endpoint.port, POST + header)
        exchange(endpoint.port, b'GET /%0a{"time":%22 HTTP/1.1\r\nHost: a\r\n\r\n')
        exchange(endpoint.port, b"GET /%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n")
        endpoint.invoke(b"[2]", headers={"X-Amzn-SageMaker-Inference-Id": "the last"})
        endpoint.wait_for_line('"the last"')
        lines = [line for line in endpoint._log.read_bytes().decode().split("\n") if line.startswith("{")]
        told = [json.loads(line) for line in lines]
        assert all(set(line) >= {"time", "path", "status", "inference_id"} for line in told)
        assert [line["inference_id"] for line in told][:3] == ['a"b', "a\\b", "a\\nb"]
        assert all(line["time"].startswith("20") for line in told)


@pytest.mark.parametrize("lane", LANES)
def test_credentials_can_be_hidden_from_user_code(serve: Serve, lane: str) -> None:
    """13.10: in no environment that the code can read: its own, the master's or the supervisor's."""
    secrets = {
        "AWS_ACCESS_KEY_ID": "hidden-key",
        "AWS_SECRET_ACCESS_KEY": "hidden-secret",
        "AWS_SESSION_TOKEN": "hidden-token",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/hidden-uri",
    }
    for hides in ("true", "false"):
        env = {**secrets, "BYOC_LANE": lane, "BYOC_HIDE_CREDENTIALS": hides, "AWS_REGION": "eu-west-1"}
        with serve("shows_environments", env) as endpoint:
            endpoint.wait_until_ready()
            shown = endpoint.invoke(json.dumps(os.getpid()).encode()).json
            assert len(shown) == 4, "its own as Python has it, the worker's, the master's and the supervisor's"
            assert all("AWS_REGION=eu-west-1" in one for one in shown)
            environments = [Path(f"/proc/{member.pid}/environ").read_text() for member in endpoint.family()]
            found = [text for text in (*map(str, shown), *environments) if "hidden-" in text]
            assert bool(found) == (hides == "false")


# Callers who take their time


@pytest.mark.parametrize("lane", LANES)
def test_callers_who_never_end_their_requests_do_not_keep_others_out(serve: Serve, lane: str) -> None:
    """14.3, 14.4: more of them than a worker has threads, with half a head each."""
    with serve("echoes", {"BYOC_LANE": lane, "BYOC_QUEUE_LIMIT": "8"}) as endpoint, ExitStack() as stack:
        endpoint.wait_until_ready()
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", endpoint.port))) for _ in range(30)]
        for connection in slow:
            connection.sendall(POST)
        done = threading.Event()

        def drip() -> None:
            while not done.wait(0.5):
                for connection in slow:
                    try:
                        connection.sendall(b"X: y\r\n")
                    except OSError:
                        continue

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            wait_until(lambda: answers(endpoint), "an answer to somebody else", 40)
        finally:
            done.set()
            dripping.join()


def answers(endpoint: Endpoint) -> bool:
    try:
        return endpoint.invoke(b"[1]", seconds=3).status == 200
    except OSError:
        return False


def test_what_is_smuggled_here_would_be_noticed(obeying: Endpoints) -> None:
    """The corpus proves something: sent by itself its hidden request is answered, and leaves its mark in the log."""
    endpoint = obeying["wsgi-nginx"] if os.access("/usr/sbin/nginx", os.X_OK) else obeying["wsgi-alone"]
    exchange(endpoint.port, SMUGGLED)
    endpoint.wait_for_line("predicting")
    assert JSON in SMUGGLED

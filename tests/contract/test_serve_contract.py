"""What the platform promises an endpoint's container, and asks of it, in both lanes, behind nginx and without."""

import hashlib
import http.client
import json
import os
import socket
import string
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sagemaker_byoc.serving.nginx import render
from sagemaker_byoc.serving.settings import ServeSettings

from tests.conftest import alarming_lines
from tests.support.http import request
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint
from tests.support.waiting import quickest, wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
OCTETS = "application/octet-stream"
MEGABYTE = 1 << 20
LANES = ("wsgi", "asgi")
both_lanes = pytest.mark.parametrize("lane", LANES)

# 100 variables; the longest name and value that a model may have, and a value that only a transform job may have.
ODD_VARIABLES = {
    "_": "an underscore",
    "lower_case": "a=b, c=\"d\" $HOME `id` \\ 'e' %s",
    "LINES": "first\nsecond\r\nthird\ttab",
    "UMLAUT": "Größe 👋",
    "EMPTY": "",
    "N" + "x" * 1023: "v" * 1024,
    "TRANSFORM": "t" * 10_240,
    "SAGEMAKER_ENABLE_LOAD_AWARE": "1",
    "SAGEMAKER_SAFE_PORT_RANGE": "23000-23999",
    **{f"MODEL_OPTION_{number}": f"{number}" for number in range(91)},
}
# Every header that a client may send, as long as it may be.
HEADERS = {
    "X-Amzn-SageMaker-Custom-Attributes": (string.printable.strip() * 11)[:1024],
    "X-Amzn-SageMaker-Target-Model": "m" * 1024,
    "X-Amzn-SageMaker-Target-Variant": "v" * 63,
    "X-Amzn-SageMaker-Target-Container-Hostname": "h" * 63,
    "X-Amzn-SageMaker-Inference-Id": "i" * 64,
    "X-Amzn-SageMaker-Enable-Explanations": "`true`".ljust(64, " ")[:63] + "x",
    "X-Amzn-SageMaker-Inference-Component": "c" * 63,
    "X-Amzn-SageMaker-Session-Id": "s" * 256,
}
MODEL_FILES = {
    "part-00000": "at the top",
    "a/b/c/d/weights 1.txt": "deep, with a space",
    "größe/👋.txt": "not ASCII",
    "n" * 255: "a long name",
    ".hidden/x": "hidden",
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((front, lane), id=f"{name}-{lane}", marks=marks)
        for front, name, marks in (("on", "nginx", pytest.mark.nginx), ("off", "gunicorn-alone", ()))
        for lane in LANES
    ],
)
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint of each kind, for tests that only ask."""
    front, lane = request.param
    folder = tmp_path_factory.mktemp("told")
    tree = OptMl.make(folder / "opt_ml")
    tree.model_code("tells_what_it_was_given")
    write(tree.base / "model", MODEL_FILES)
    write(tree.base / "additional-model-data-sources", {"adapters/a.txt": "one", "base-model/deep/b.txt": "two"})
    env = {"BYOC_NGINX": front, "BYOC_LANE": lane, **ODD_VARIABLES}
    with Endpoint(tree, folder / "serve.log", env) as told:
        yield told.wait_until_ready()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def tell(endpoint: Endpoint, what: str, **more: object) -> Any:
    reply = endpoint.invoke(json.dumps({"do": what, **more}).encode())
    assert reply.status == 200, reply
    return reply.json


# ---- what the container is given


def test_every_variable_reaches_the_functions_unchanged(endpoint: Endpoint) -> None:
    """13.4, 15.41, 28.13, 29.8: 100 of them, odd names, long values, some whose meaning nobody knows."""
    assert len(ODD_VARIABLES) == 100
    found = tell(endpoint, "environment")
    assert {name: found.get(name) for name in ODD_VARIABLES} == ODD_VARIABLES


def test_files_of_the_model_are_where_their_keys_say(endpoint: Endpoint) -> None:
    """13.7: uncompressed models have folders, and any name that a file may have."""
    found = tell(endpoint, "files", folder="model")
    assert {name: found.get(name) for name in MODEL_FILES} == MODEL_FILES


def test_further_sources_of_data_can_be_read(endpoint: Endpoint) -> None:
    """13.8."""
    found = tell(endpoint, "files", folder="additional-model-data-sources")
    assert found == {"adapters/a.txt": "one", "base-model/deep/b.txt": "two"}


@both_lanes
def test_serving_changes_nothing_below_the_base_directory(opt_ml: OptMl, serve: Serve, lane: str) -> None:
    """13.5: not a bit, not a time, no byte code, no lock, no cache."""
    opt_ml.model_code("imports_its_neighbours")
    write(opt_ml.base / "model", MODEL_FILES)
    before = fingerprint(opt_ml.base)
    with serve(None, {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").status == 200
        assert endpoint.invoke(b"[1").status == 400
        endpoint.terminate()
        assert endpoint.wait() == 0
    assert fingerprint(opt_ml.base) == before


def fingerprint(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time of change and content of everything below a folder."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.stat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


# ---- ping


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_ping_is_answered_whatever_the_method(endpoint: Endpoint, method: str) -> None:
    """14.2, 14.3, 28.5: with 200 and no body, within two seconds."""

    assert quickest(lambda: ping(endpoint, method), 2) < 2


def ping(endpoint: Endpoint, method: str = "GET") -> None:
    reply = endpoint.ping(method)
    assert (reply.status, reply.body) == (200, b"")


@both_lanes
def test_connections_are_accepted_while_every_thread_is_busy(serve: Serve, lane: str, tmp_path: Path) -> None:
    """14.4, 14.6: within 250 milliseconds, and pinged again and again."""
    gate = tmp_path / "gate"
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "2", "BYOC_LANE": lane}
    with serve("slow_predict", env) as endpoint, ThreadPoolExecutor(6) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"[1]") for _ in range(6)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") >= 2, "both threads to be busy")
            for _ in range(20):
                assert quickest(lambda: socket.create_connection(("127.0.0.1", endpoint.port), 5).close(), 0.25) < 0.25
                assert endpoint.ping().status == 200
        finally:
            gate.touch()
        assert [answer.result().status for answer in answers] == [200] * 6


@both_lanes
def test_as_many_as_the_queue_holds_are_in_flight_while_ping_lives(serve: Serve, lane: str, tmp_path: Path) -> None:
    """19.3: asynchronous endpoints send up to 1,000 at once; BYOC_QUEUE_LIMIT says how many may wait."""
    gate = tmp_path / "gate"
    many = 200
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "2", "BYOC_QUEUE_LIMIT": str(many), "BYOC_LANE": lane}
    with serve("slow_predict", env) as endpoint, ThreadPoolExecutor(many) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"[1]") for _ in range(many)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") >= 2, "both threads to be busy")
            for _ in range(10):
                assert quickest(lambda: ping(endpoint), 2) < 2
            assert not [answer for answer in answers if answer.done()]
        finally:
            gate.touch()
        assert {answer.result().status for answer in answers} == {200}
        assert alarming_lines(endpoint.log) == []


# ---- invocations


@pytest.mark.parametrize("megabytes", [25, 100])
def test_large_bodies_arrive_whole(endpoint: Endpoint, megabytes: int) -> None:
    """15.3, 15.36, 28.6: real-time endpoints send 25 MB, transform jobs 100 MB, with a length or in chunks."""
    body = os.urandom(MEGABYTE) * megabytes
    chunks = (body[at : at + 999_999] for at in range(0, len(body), 999_999))
    sent: Iterable[bytes] | bytes
    for sent in (body, chunks):
        reply = endpoint.invoke(sent, OCTETS, OCTETS)
        assert (reply.status, len(reply.body)) == (200, len(body))
        assert reply.body == body


def test_every_header_of_the_interface_reaches_the_functions(endpoint: Endpoint) -> None:
    """15.7, 29.1: all at once, each as long as it may be; also those that only the platform may use."""
    types = {"content-type": "application/json" + "; a=b".ljust(1008, "c"), "accept": "application/json" + " " * 1007}
    types["accept"] += ","
    assert {len(value) for value in types.values()} == {1024}
    reply = endpoint.invoke(b'{"do": "headers"}', types["content-type"], types["accept"], HEADERS)
    assert reply.status == 200, reply
    for name, value in {**HEADERS, **types}.items():
        assert reply.json[name.lower()] == value, name


def test_unknown_headers_are_no_obstacle(endpoint: Endpoint) -> None:
    """15.6: the platform may add its own."""
    headers = {f"X-Amzn-SageMaker-New-{number}": "x" * 50 for number in range(30)}
    more = {"X-Amzn-Trace-Id": "Root=1-2-3", "X-Forwarded-For": "10.0.0.1", "Expect-Nothing": "", "x_under_score": "1"}
    assert endpoint.invoke(b"[1]", headers={**headers, **more}).json == [1]


def test_custom_attributes_are_sent_only_when_set(endpoint: Endpoint) -> None:
    """15.8, 29.9: the caller's do not come back by themselves; what a function sets does, metering too."""
    silent = endpoint.invoke(b"[1]", headers=HEADERS)
    assert not [name for name in silent.headers if name.startswith("x-")], silent.headers
    order = {"do": "set", "attributes": "trace=1; a,b", "metering": '{"Dimension":"inference.count","Units":1}'}
    spoken = endpoint.invoke(json.dumps(order).encode(), headers=HEADERS)
    assert spoken.headers["x-amzn-sagemaker-custom-attributes"] == order["attributes"]
    assert spoken.headers["x-amzn-inference-metering"] == order["metering"]


@pytest.mark.parametrize("accept", [None, "*/*", ""])
def test_caller_who_wants_nothing_special_gets_json(endpoint: Endpoint, accept: str | None) -> None:
    """15.9."""
    reply = endpoint.invoke(b"1,2\n3,4\n", "text/csv", accept)
    assert (reply.status, reply.content_type, reply.json) == (200, "application/json", [[1, 2], [3, 4]])


def test_body_of_no_type_reaches_the_functions_as_bytes(serve: Serve) -> None:
    """15.9."""
    with serve("tells_its_type") as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]", None).json == [OCTETS, "bytes", 3]


@pytest.mark.parametrize("content_type", ["text/csv", "application/json", "application/jsonlines", OCTETS])
def test_each_answer_says_what_it_is(endpoint: Endpoint, content_type: str) -> None:
    """15.42, 21.2: data capture tells CSV and JSON from bytes by it."""
    bodies = {"text/csv": b"1,2\n3,4\n", "application/json": b"[[1,2],[3,4]]", "application/jsonlines": b"[1]\n[3]\n"}
    reply = endpoint.invoke(bodies.get(content_type, b"\x00\xff"), content_type, content_type)
    assert (reply.status, reply.content_type) == (200, content_type)


@both_lanes
def test_failure_in_the_middle_of_a_stream_breaks_the_connection(serve: Serve, lane: str) -> None:
    """15.12: never a body that looks complete; the log says why, and the next caller is served."""
    with serve("streams_numbers", {"BYOC_LANE": lane}) as endpoint:
        endpoint.wait_until_ready()
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
        body = b'{"count": 4, "fails_at": 2}'
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:
            answer.read()
        connection.close()
        if isinstance(broken.value, http.client.IncompleteRead):
            assert b"".join([broken.value.partial]).startswith(b'{"number":0}\n')
        endpoint.wait_for_line("no more")
        assert endpoint.invoke(b'{"count": 1}').body == b'{"number":0}\n'


@pytest.mark.nginx
def test_request_that_ends_its_worker_is_not_sent_to_another(opt_ml: OptMl, tmp_path: Path) -> None:
    """15.39: who repeats a request is the caller, who alone knows whether that does harm."""
    opt_ml.model_code("tells_what_it_was_given")
    env = {"BYOC_NGINX": "on", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with Endpoint(opt_ml, tmp_path / "serve.log", env) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b'{"do": "die"}').error["type"] == "WorkerLost"
        wait_until(lambda: len(endpoint.workers()) == 2, "another worker")
        assert endpoint.invoke(b"[1]").status == 200
        assert endpoint.log.count("dying") == 1


# ---- batch transform


LINES = [f"{number},{number / 8}" for number in range(1000)]


@pytest.mark.parametrize("size", [1, 7, 1000], ids=["SingleRecord", "mini-batches", "whole file"])
@pytest.mark.parametrize("end", ["", "\n"], ids=["no-last-newline", "last-newline"])
def test_file_split_at_any_line_is_the_same_records_when_put_together(endpoint: Endpoint, size: int, end: str) -> None:
    """15.37, 15.42, 21.3: one record out for one in, in order, each with its newline."""
    lines = LINES if size > 1 else LINES[:50]
    parts = [lines[at : at + size] for at in range(0, len(lines), size)]
    bodies = ["\n".join(part) + end for part in parts]
    replies = [endpoint.invoke(body.encode(), "text/csv", "text/csv") for body in bodies]
    assert {(reply.status, reply.content_type) for reply in replies} == {(200, "text/csv")}
    assembled = b"".join(reply.body for reply in replies).decode()
    assert assembled.endswith("\n")
    values = [[float(cell) for cell in line.split(",")] for line in assembled.splitlines()]
    assert values == [[float(cell) for cell in line.split(",")] for line in lines]


def test_json_lines_keep_their_order_and_their_number(endpoint: Endpoint) -> None:
    """15.37: objects of any shape, Unicode's own line ends within them."""
    records = [{"id": number, "text": "a\u2028b\u0085c" if number % 3 else "\n"} for number in range(500)]
    for end in ("", "\n", "\r\n"):
        body = "\n".join(json.dumps(record, ensure_ascii=False) for record in records) + end
        reply = endpoint.invoke(body.encode(), "application/jsonlines", "application/jsonlines")
        assert reply.status == 200, reply
        assert [json.loads(line) for line in reply.body.split(b"\n")[:-1]] == records
        assert reply.body.endswith(b"\n")


TRANSFORM = [
    ({"SAGEMAKER_BATCH": "true"}, (1, "MULTI_RECORD", 6)),
    ({"SAGEMAKER_BATCH": "True", "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD"}, (1, "SINGLE_RECORD", 6)),
    (
        {
            "SAGEMAKER_BATCH": "True",
            "SAGEMAKER_BATCH_STRATEGY": "SingleRecord",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0",
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "200",
        },
        (200, "SINGLE_RECORD", 0),
    ),
    ({"SAGEMAKER_BATCH": "true", "SAGEMAKER_BATCH_STRATEGY": "MultiRecord"}, (1, "MULTI_RECORD", 6)),
]


@pytest.mark.parametrize(("env", "expected"), TRANSFORM, ids=["plain", "local mode", "all set", "the API's word"])
@both_lanes
def test_transform_job_is_told_what_it_was_told(
    serve: Serve, lane: str, env: dict[str, str], expected: tuple[int, str, int]
) -> None:
    """15.34, 15.35, 15.36, 28.9, 28.10."""
    with serve("echoes", {"BYOC_LANE": lane, **env}) as endpoint:
        endpoint.wait_until_ready()
        reply = request(endpoint.port, "GET", "/execution-parameters")
        assert (reply.status, reply.content_type) == (200, "application/json")
        names = ("MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB")
        assert reply.json == dict(zip(names, expected, strict=True))
        assert endpoint.invoke(iter([b"1,", b"2\n3", b",4"]), "text/csv", "text/csv").body == b"1,2\n3,4\n"


@pytest.mark.parametrize(
    ("workers", "megabytes", "advised"), [("64", "6", 16), ("2", "6", 2), ("8", "100", 1), ("64", "0", 64)]
)
def test_advice_to_a_transform_job_is_one_that_it_may_take(workers: str, megabytes: str, advised: int) -> None:
    """15.35, 15.36: requests at once times megabytes may be 100."""
    environ = {"SAGEMAKER_MODEL_SERVER_WORKERS": workers, "SAGEMAKER_MAX_PAYLOAD_IN_MB": megabytes}
    assert ServeSettings.read(environ).concurrent_transforms == advised


@both_lanes
def test_as_many_requests_as_a_transform_job_may_send_are_taken(serve: Serve, lane: str, tmp_path: Path) -> None:
    """15.34, 15.36: a request that is turned away is tried three times, then the job has failed."""
    gate, many = tmp_path / "gate", 100
    env = {"TEST_GATE": str(gate), "SAGEMAKER_BATCH": "true", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(many)}
    with serve("slow_predict", {**env, "BYOC_LANE": lane}) as endpoint, ThreadPoolExecutor(many) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"[1]") for _ in range(many)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") == 8, "all threads to be busy")
            assert not [answer.result().status for answer in answers if answer.done()]
        finally:
            gate.touch()
        assert {answer.result().status for answer in answers} == {200}


@pytest.mark.parametrize("value", ["true", "True", "TRUE", " true "])
def test_transform_job_has_an_hour_for_each_request(value: str) -> None:
    """15.34, 15.39, 28.9."""
    assert ServeSettings.read({"SAGEMAKER_BATCH": value}).timeout == 3600
    assert ServeSettings.read({"SAGEMAKER_BATCH": "false"}).timeout == 60


# ---- settings


@both_lanes
def test_asynchronous_endpoint_may_take_an_hour_and_a_gigabyte(serve: Serve, lane: str, tmp_path: Path) -> None:
    """19.2: it starts so, and the front door has both limits."""
    env = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "3600", "BYOC_LANE": lane}
    with serve("echoes", env) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").json == [1]
    text = render(ServeSettings.read(env), tmp_path)
    for limit in ("proxy_read_timeout 3600s;", "proxy_send_timeout 3600s;", "client_body_timeout 3600s;"):
        assert limit in text
    assert "client_max_body_size 1100m;" in text


@pytest.mark.parametrize(
    ("environ", "field", "value"),
    [
        ({"SAGEMAKER_PROGRAM": "predict.py"}, "program", "predict.py"),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/code"}, "submit_directory", Path("/opt/ml/code")),
        ({"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/source.tar.gz"}, "submit_directory", None),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "3"}, "workers", 3),
        ({"MODEL_SERVER_WORKERS": "3"}, "workers", 3),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT": "300"}, "timeout", 300),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "300"}, "timeout", 300),
        ({"SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS": "300", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "5"}, "timeout", 300),
        ({"MODEL_SERVER_TIMEOUT": "300"}, "timeout", 300),
        ({"SAGEMAKER_STARTUP_TIMEOUT": "3600"}, "model_load_timeout", 3600),
        ({"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}, "default_accept", "text/csv"),
        ({"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}, "log_level", 40),
        ({"SAGEMAKER_MAX_PAYLOAD_IN_MB": "20"}, "max_payload_mb", 20),
        ({"SAGEMAKER_BIND_TO_PORT": "23000"}, "port", 23000),
        ({"SAGEMAKER_MULTI_MODEL": "true"}, "multi_model", True),
    ],
)
def test_variables_that_people_know_are_understood(environ: dict[str, str], field: str, value: object) -> None:
    """22.1."""
    assert getattr(ServeSettings.read(environ), field) == value


@pytest.mark.parametrize("beside_the_model", [False, True])
def test_code_in_the_submitted_folder_goes_after_the_models_own(
    opt_ml: OptMl, serve: Serve, program: Callable[[str], Path], beside_the_model: bool
) -> None:
    """22.1: SAGEMAKER_SUBMIT_DIRECTORY."""
    opt_ml.code("transform_fn_only")
    env = {"SAGEMAKER_SUBMIT_DIRECTORY": str(program("tells_its_type"))}
    with serve("echoes" if beside_the_model else None, env) as endpoint:
        endpoint.wait_until_ready()
        answer = endpoint.invoke(b"[1]").json
        assert answer == ([1] if beside_the_model else ["application/json", "str", 3])


def test_load_may_take_as_long_as_the_platform_waits(serve: Serve, tmp_path: Path) -> None:
    """13.9, 14.5: up to an hour when the endpoint says so; a load that takes longer than that is begun anew."""
    gate = tmp_path / "gate"
    with serve("slow_model_fn", {"TEST_GATE": str(gate), "SAGEMAKER_STARTUP_TIMEOUT": "4"}) as endpoint:
        endpoint.wait_for_line("the code that serves")
        first = endpoint.workers()
        endpoint.wait_for_line("has not loaded its model in")
        wait_until(lambda: endpoint.workers() and not first & endpoint.workers(), "another worker")
        assert endpoint.ping().status == 503
        gate.touch()
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").json == "loaded"


def test_levels_of_the_log_are_kept(serve: Serve) -> None:
    """22.1, 13.12: SAGEMAKER_CONTAINER_LOG_LEVEL; functions' own output is never held back."""
    with serve("transform_fn_only", {"SAGEMAKER_CONTAINER_LOG_LEVEL": "40"}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"hello", "text/anything").status == 200
        assert " INFO " not in endpoint.log

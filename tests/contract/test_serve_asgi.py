"""The lane on an event loop: the same answers as the other lane, and a loop that goes on whatever a function does."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import alarming_lines
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
JSON = {"Content-Type": "application/json"}
LANE = {"BYOC_LANE": "asgi"}
ORDERED = {"BYOC_NGINX": "on", "PYTHONHASHSEED": "0"}  # Flask lists the allowed methods as a set has them
WAIT = b'{"do": "wait"}'


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file whose coming into being lets a waiting program go on."""
    return tmp_path / "gate"


@dataclass(frozen=True)
class Ask:
    """One request of the corpus."""

    name: str
    method: str = "POST"
    path: str = "/invocations"
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False


def told(name: str, do: str, **headers: str) -> Ask:
    """A request that says what is to be done."""
    body = json.dumps({"do": do, "pieces": 3}).encode()
    return Ask(name, body=body, headers={**JSON, **{key.replace("_", "-"): value for key, value in headers.items()}})


CORPUS = [
    Ask("json", body=b"[1, 2]", headers=JSON),
    Ask("json in chunks", body=b'{"a": [1, 2]}', headers=JSON, chunked=True),
    Ask("csv in, csv out", body=b"1,2\n3,4\n", headers={"Content-Type": "text/csv", "Accept": "text/csv"}),
    Ask("unicode", body='{"é": "👋"}'.encode(), headers=JSON),
    Ask(
        "several types accepted",
        body=b"[[1, 2]]",
        headers={**JSON, "Accept": "image/png;q=0.9, text/csv;q=0.5, */*;q=0.1"},
    ),
    Ask("nothing of what is accepted", body=b"[1]", headers={**JSON, "Accept": "video/mp4"}),
    Ask("unknown type", body=b"?", headers={"Content-Type": "video/mp4"}),
    Ask("no type", body=b"[1]"),
    Ask("not json", body=b"{[", headers=JSON),
    Ask("not utf-8", body=b'"\xff"', headers=JSON),
    Ask("empty body", body=b"", headers=JSON),
    Ask("no body"),
    told("the function fails", "raise"),
    told("the function has a status", "teapot"),
    told("attributes", "attributes", X_Amzn_SageMaker_Custom_Attributes="trace=1"),
    told("a stream", "stream"),
    told("a stream of events", "stream", Accept="text/event-stream"),
    Ask("ping", "GET", "/ping"),
    Ask("ping by post", "POST", "/ping", b""),
    Ask("execution parameters", "GET", "/execution-parameters"),
    Ask("wrong method", "GET"),
    Ask("wrong method, no body asked for", "HEAD"),
    Ask("options", "OPTIONS"),
    Ask("no such path", "GET", "/nothing/here"),
    Ask("a path that is almost right", "POST", "/invocations/", b"[1]", JSON),
    Ask("a query", "POST", "/invocations?a=b", b"[1]", JSON),
]


def raw_answer(port: int, ask: Ask) -> bytes:
    """Every byte of the answer, but the date's, and names of headers and statuses without upper case."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        lines = [f"{ask.method} {ask.path} HTTP/1.1", "Host: here", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in ask.headers.items()]
        body = ask.body or b""
        if ask.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0\r\n\r\n"
        elif ask.body is not None:
            lines.append(f"Content-Length: {len(body)}")
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, rest = answer.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    named = [line.partition(b":") for line in headers]
    kept = [status.lower(), *(name.lower() + colon + value for name, colon, value in named if name.lower() != b"date")]
    return b"\r\n".join(kept) + b"\r\n\r\n" + rest


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Endpoint]]:
    """The same program in both lanes."""
    folder = tmp_path_factory.mktemp("lanes")
    tree = OptMl.make(folder / "opt_ml")
    tree.model_code("does_what_it_is_told")
    with (
        Endpoint(tree, folder / "asgi.log", {**ORDERED, **LANE}) as asgi,
        Endpoint(tree, folder / "wsgi.log", ORDERED) as wsgi,
    ):
        yield {"asgi": asgi.wait_until_ready(), "wsgi": wsgi.wait_until_ready()}


@pytest.mark.nginx
@pytest.mark.parametrize("ask", CORPUS, ids=lambda ask: ask.name)
def test_both_lanes_answer_byte_for_byte_the_same(lanes: dict[str, Endpoint], ask: Ask) -> None:
    """15.1, 15.5, 15.6, 15.9: whoever changes the lane changes no caller."""
    answers = {name: raw_answer(endpoint.port, ask) for name, endpoint in lanes.items()}
    assert answers["asgi"] == answers["wsgi"]
    assert answers["asgi"].startswith(b"http/1.1 ")


@pytest.mark.nginx
def test_plain_function_may_run_a_loop_of_its_own_wherever_it_runs(serve: Serve) -> None:
    """15.1: after some quick requests it runs on the server's loop, which it is not to see."""
    with serve("runs_a_loop", {"BYOC_LANE": "asgi"}) as endpoint:
        endpoint.wait_until_ready()
        replies = [endpoint.invoke(b"1") for _ in range(100)]
        assert {reply.body for reply in replies} == {b"2"}, replies[-1]
        endpoint.terminate()
        assert endpoint.wait() == 0


def test_quick_functions_on_the_loop_answer_the_same_as_in_a_thread(lanes: dict[str, Endpoint]) -> None:
    """15.1: a worker's first requests run in threads, later ones on the loop."""
    for ask in (CORPUS[0], CORPUS[12], CORPUS[14]):
        assert {raw_answer(lanes["asgi"].port, ask) for _ in range(40)} == {raw_answer(lanes["wsgi"].port, ask)}


def test_a_body_of_many_parts_arrives_whole(serve: Serve) -> None:
    """15.10."""
    body = os.urandom(30 << 20)
    with serve("echoes", LANE) as endpoint:
        endpoint.wait_until_ready()
        octets = "application/octet-stream"
        for sent in (body, [body[i : i + 99_999] for i in range(0, len(body), 99_999)]):
            reply = endpoint.invoke(sent, octets, octets)
            assert (reply.status, reply.body == body) == (200, True)


def test_slow_functions_stop_neither_each_other_nor_the_loop(serve: Serve, gate: Path) -> None:
    """14.3, 14.7: as many as there are threads run at once, and /ping is answered within 2 seconds."""
    with serve("does_what_it_is_told", {**LANE, "TEST_GATE": str(gate), "BYOC_THREADS": "3"}) as endpoint:
        endpoint.wait_until_ready()
        with in_flight(endpoint, 3, gate) as answers:
            endpoint.wait_until_ready(2)
        assert [answer.result().status for answer in answers] == [200] * 3


def test_more_than_threads_and_queue_hold_is_turned_away_at_once(serve: Serve, gate: Path) -> None:
    """15.4: with Retry-After."""
    env = {**LANE, "TEST_GATE": str(gate), "BYOC_THREADS": "1", "BYOC_QUEUE_LIMIT": "1"}
    with serve("does_what_it_is_told", env) as endpoint:
        endpoint.wait_until_ready()
        with in_flight(endpoint, 1, gate) as answers, ThreadPoolExecutor(4) as pool:
            more = [pool.submit(endpoint.invoke, WAIT) for _ in range(4)]
            wait_until(lambda: sum(one.done() for one in more) == 3, "three refusals")
            refused = [one.result() for one in more if one.done()]
            assert {reply.status for reply in refused} == {503}
            assert {reply.error["type"] for reply in refused} == {"Overloaded"}
            assert {reply.headers["retry-after"] for reply in refused} == {"1"}
            gate.touch()
            assert sorted(one.result().status for one in more) == [200, 503, 503, 503]
        assert answers[0].result().status == 200


def test_a_caller_that_leaves_before_its_turn_costs_the_model_nothing(serve: Serve, gate: Path) -> None:
    """15.2: who has gone waits for nothing."""
    with serve("does_what_it_is_told", {**LANE, "TEST_GATE": str(gate), "BYOC_THREADS": "1"}) as endpoint:
        endpoint.wait_until_ready()
        with in_flight(endpoint, 1, gate) as answers:
            for _ in range(5):
                connection = start(endpoint, WAIT)
                connection.close()
            metrics = ask_metrics(endpoint)
            assert 'status="499"' not in metrics
        assert answers[0].result().status == 200
        wait_until(lambda: 'byoc_rejected_total{reason="ClientGone"} 5.0' in ask_metrics(endpoint), "five gone")
        assert endpoint.log.count("predicting") == 1


def test_the_first_piece_of_a_stream_leaves_before_the_second_is_made(serve: Serve, gate: Path) -> None:
    """15.11."""
    with serve("does_what_it_is_told", {**LANE, "TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_until_ready()
        connection = start(endpoint, b'{"do": "stream", "pieces": 3}')
        answer = connection.getresponse()
        assert answer.readline() == b'{"piece":0}\n'
        gate.touch()
        assert answer.read().count(b"\n") == 2
        connection.close()


@pytest.mark.parametrize(
    ("program", "body", "kind"),
    [
        ("does_what_it_is_told", b'{"do": "stream", "pieces": 100000}', "application/json"),
        ("predicts_asynchronously", b"stream 100000", "application/x-text"),
    ],
)
def test_a_caller_that_leaves_stops_the_stream(serve: Serve, program: str, body: bytes, kind: str) -> None:
    """15.11: nobody pays for tokens that nobody reads, and the function's `finally` runs."""
    with serve(program, LANE) as endpoint:
        endpoint.wait_until_ready()
        connection = start(endpoint, body, kind)
        connection.getresponse().readline()
        connection.close()
        endpoint.wait_for_line("the stream is over")


def test_a_content_type_cannot_smuggle_a_header(serve: Serve) -> None:
    """15.8: what a function takes from a request ends in no line of its own."""
    with serve("answers_with_two_lines_of_content_type", LANE) as endpoint:
        endpoint.wait_until_ready()
        for _ in range(40):  # in a thread at first, then on the loop
            reply = endpoint.invoke(b"text/plain|Set-Cookie: a=b", "application/x-text")
            assert (reply.status, "set-cookie" in reply.headers) == (500, False)
            assert reply.error["type"] == "HandlerError"
        assert endpoint.invoke(b"text/plain", "application/x-text").content_type == "text/plain"


def test_async_functions_are_awaited(serve: Serve) -> None:
    """22.2: all together, with the context, on one loop."""
    with serve("predicts_asynchronously", LANE) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b"ab", "application/x-text")
        assert (reply.status, reply.body, reply.content_type) == (200, b"abab", "text/plain")
        assert reply.headers["x-amzn-sagemaker-custom-attributes"] == "seen"
        reply = endpoint.invoke(b"stream 3", "application/x-text")
        assert (reply.status, reply.body) == (200, b"piece 0\npiece 1\npiece 2\n")


def test_an_error_in_an_async_function_is_told_as_any_other(serve: Serve) -> None:
    """15.4: to the caller in a sentence, to the log with the user's frames."""
    with serve("predicts_asynchronously", LANE) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b"fail", "application/x-text")
        assert reply.status == 500
        assert reply.error["message"].startswith(
            "predict_fn raised RuntimeError: as the caller asked for (inference.py"
        )
        assert "sagemaker_byoc/serving" not in endpoint.log


def test_many_async_requests_wait_at_once(serve: Serve, gate: Path) -> None:
    """19.3: who only waits for others needs no thread."""
    env = {**LANE, "TEST_GATE": str(gate), "BYOC_THREADS": "1"}
    with serve("predicts_asynchronously", env) as endpoint, ThreadPoolExecutor(20) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"wait", "application/x-text") for _ in range(20)]
        wait_until(lambda: endpoint.log.count("predicting") == 20, "all to wait")
        gate.touch()
        assert {answer.result().status for answer in answers} == {200}


def test_an_async_function_that_takes_too_long_is_cancelled(serve: Serve, gate: Path) -> None:
    """15.2."""
    env = {**LANE, "TEST_GATE": str(gate), "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}
    with serve("predicts_asynchronously", env) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"wait", "application/x-text").status == 504
        endpoint.wait_for_line("nobody waits any more")


def test_the_other_lane_refuses_async_functions_at_load(serve: Serve) -> None:
    """22.2: it names the function and the lane."""
    with serve("predicts_asynchronously") as endpoint:
        endpoint.wait_for_line("input_fn in inference.py is async, which needs an event loop: set BYOC_LANE=asgi")
        assert endpoint.ping().status == 503


def test_requests_in_flight_are_answered_when_told_to_stop(serve: Serve, gate: Path) -> None:
    """13.2: and the exit code is 0."""
    with serve("does_what_it_is_told", {**LANE, "TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_until_ready()
        with in_flight(endpoint, 4, gate) as answers:
            endpoint.terminate()
            endpoint.wait_for_line("draining")
        assert [answer.result().status for answer in answers] == [200] * 4
        assert endpoint.wait() == 0
        assert alarming_lines(endpoint.log) == []


def test_idle_connections_do_not_hold_up_a_stop(serve: Serve) -> None:
    """13.2: only requests are waited for."""
    with serve("does_what_it_is_told", LANE) as endpoint:
        endpoint.wait_until_ready()
        connections = [start(endpoint, b"[1]") for _ in range(8)]
        for connection in connections:
            assert connection.getresponse().read() == b"[1]"
        began = time.monotonic()
        endpoint.terminate()
        assert endpoint.wait() == 0
        assert time.monotonic() - began < 20


def test_each_request_has_its_line(serve: Serve) -> None:
    """15.14: with the inference id, and one for a stream when it is over; pings have none."""
    with serve("does_what_it_is_told", LANE) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1, 2]", headers={"X-Amzn-SageMaker-Inference-Id": "abc-1"}).status == 200
        assert endpoint.invoke(b"{[").status == 400
        assert endpoint.invoke(b'{"do": "stream", "pieces": 2}').status == 200
        ask_metrics(endpoint)
        wait_until(lambda: len(access_lines(endpoint)) == 4, "four lines")
        lines = access_lines(endpoint)
        answered, refused, streamed, scraped = lines
        assert (answered["status"], answered["request_bytes"], answered["inference_id"]) == (200, 6, "abc-1")
        assert answered["response_bytes"] == 5
        assert (refused["method"], refused["path"], refused["status"]) == ("POST", "/invocations", 400)
        assert streamed["response_bytes"] >= len(b'{"piece":0}\n') * 2
        assert (scraped["method"], scraped["path"]) == ("GET", "/metrics")


def access_lines(endpoint: Endpoint) -> list[dict[str, Any]]:
    """What the log tells of requests."""
    return [json.loads(line) for line in endpoint.log.splitlines() if line.startswith("{")]


def test_a_reload_under_load_loses_nothing(serve: Serve) -> None:
    """13.2, 14.8: callers who keep their connections and callers who do not."""
    with serve("does_what_it_is_told", {**LANE, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}) as endpoint:
        endpoint.wait_until_ready()
        before, over = endpoint.workers(), threading.Event()
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask_until, over, endpoint, kept) for kept in (True, False) * 4]
            try:
                for count in (1, 2):
                    endpoint.process.send_signal(signal.SIGHUP)
                    endpoint.wait_for_lines("reloaded: every slot has a new worker", count)
                wait_until(
                    lambda: endpoint.workers().isdisjoint(before) and len(endpoint.workers()) == 2, "old workers"
                )
            finally:
                over.set()
            statuses = [status for one in asking for status in one.result()]
        assert len(statuses) > 100
        assert set(statuses) == {200}


def ask_until(over: threading.Event, endpoint: Endpoint, keeps: bool) -> list[int]:
    """Ask again and again; the statuses. A kept connection is opened anew only where the server has said so."""
    statuses, connection = [], None
    while not over.is_set():
        connection = connection or http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
        connection.request("POST", "/invocations", b'{"do": "sleep", "seconds": 0.001}', JSON)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if not keeps or answer.headers.get("Connection", "").lower() == "close":
            connection.close()
            connection = None
    return statuses


@contextmanager
def in_flight(endpoint: Endpoint, count: int, gate: Path) -> Iterator[list[Future[Any]]]:
    """So many requests in the model; the gate opens at the end."""
    with ThreadPoolExecutor(count) as pool:
        answers = [pool.submit(endpoint.invoke, WAIT) for _ in range(count)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") >= count, f"{count} requests in the model")
            yield answers
        finally:
            gate.touch()


def start(endpoint: Endpoint, body: bytes, kind: str = "application/json") -> http.client.HTTPConnection:
    """A request that has been sent."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    connection.request("POST", "/invocations", body, {"Content-Type": kind})
    return connection


def ask_metrics(endpoint: Endpoint) -> str:
    """The metrics of all workers."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return text

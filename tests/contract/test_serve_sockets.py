"""Streams in both directions: WebSockets through nginx to the user's function."""

import contextlib
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import FRONTS, alarming_lines
from tests.support.http import request
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
PATH = "/invocations-bidirectional-stream"
LANE = {"BYOC_LANE": "asgi"}
MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=FRONTS)
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint for tests that only talk, with nginx and without."""
    folder = tmp_path_factory.mktemp("sockets")
    tree = OptMl.make(folder / "opt_ml")
    tree.model_code("answers_in_both_directions")
    with Endpoint(tree, folder / "serve.log", {**LANE, "BYOC_NGINX": request.param}) as endpoint:
        yield endpoint.wait_until_ready()


def stream(endpoint: Endpoint, path: str = PATH, headers: dict[str, str] | None = None) -> ClientConnection:
    """A WebSocket as the platform opens it: no compression, messages of any size."""
    return connect(
        f"ws://127.0.0.1:{endpoint.port}{path}",
        additional_headers=headers,
        compression=None,
        max_size=None,
        ping_interval=None,
        close_timeout=5,
    )


def closing(connection: ClientConnection) -> tuple[int | None, str]:
    """The code and the reason with which the other side closes, after whatever it still sends."""
    try:
        while True:
            connection.recv(timeout=60)
    except ConnectionClosed:
        return connection.close_code, connection.close_reason or ""


def test_text_and_binary_messages_keep_their_kind(endpoint: Endpoint) -> None:
    """15.19, 15.20: UTF8 is a text frame, BINARY a binary one, in both directions."""
    with stream(endpoint) as caller:
        for message in ("hello", "grüß dich 👋", "", b"\x00\xff", b"", b"{}"):
            caller.send(message)
            assert caller.recv(timeout=60) == message


@pytest.mark.parametrize("pieces", [["one ", "two ", "three"], [b"\x00" * 70_000, b"\x01", b"\x02" * 200]])
def test_a_fragmented_message_is_one_message(endpoint: Endpoint, pieces: list[str] | list[bytes]) -> None:
    """15.20: parts that are PARTIAL, then COMPLETE."""
    with stream(endpoint) as caller:
        caller.send(iter(pieces))
        assert caller.recv(timeout=60) == type(pieces[0])().join(pieces)  # type: ignore[arg-type]  # of one kind


def test_a_megabyte_goes_through_unchanged_and_at_once(endpoint: Endpoint) -> None:
    """15.20: large parts; taking a message's mask off must not stop everybody else."""
    message = os.urandom(MEGABYTE)
    with stream(endpoint) as caller:
        began = time.monotonic()
        for _ in range(8):
            caller.send(message)
            assert caller.recv(timeout=60) == message
        assert time.monotonic() - began < 20


def test_a_message_over_the_limit_is_refused_before_it_is_read(endpoint: Endpoint) -> None:
    """15.20: it ends the stream; a caller that is still sending may see no more than that."""
    with stream(endpoint) as caller:
        with contextlib.suppress(ConnectionClosed):
            caller.send(bytes(26 * MEGABYTE))
        assert closing(caller)[0] in (1009, 1006)
    with stream(endpoint) as caller:
        caller.send(bytes(24 * MEGABYTE))
        assert caller.recv(timeout=40) == bytes(24 * MEGABYTE)


def test_the_function_is_told_path_query_and_headers(endpoint: Endpoint) -> None:
    """15.19: X-Amzn-SageMaker-Model-Invocation-Path and -Query-String arrive as path and query; any path will do."""
    headers = {"X-Amzn-SageMaker-Inference-Id": "abc-1"}
    with stream(endpoint, "/v1/speech?voice=alto&speed=2", headers) as caller:
        caller.send("who?")
        assert caller.recv(timeout=60) == "hello /v1/speech voice=alto&speed=2 abc-1"


def test_pings_are_answered_while_the_function_waits(endpoint: Endpoint) -> None:
    """15.21: the platform pings each minute, five missed pongs end the stream."""
    with stream(endpoint) as caller:
        for _ in range(5):
            assert caller.ping(b"minute").wait(10)
        caller.send("still there")
        assert caller.recv(timeout=60) == "still there"


def test_the_function_may_end_the_stream(endpoint: Endpoint) -> None:
    """15.21: a close frame is the end of the stream."""
    with stream(endpoint) as caller:
        caller.send("finish")
        assert closing(caller) == (1000, "")


def test_an_error_in_the_function_closes_with_a_reason_and_leaves_its_trace_in_the_log(endpoint: Endpoint) -> None:
    """15.21: 1011 becomes a ModelStreamError; the trace is of the user's frames only."""
    with stream(endpoint) as caller:
        caller.send("fail")
        code, reason = closing(caller)
    assert code == 1011
    assert reason.startswith("bidirectional_stream_fn raised RuntimeError: as the caller asked for")
    endpoint.wait_for_line("RuntimeError: as the caller asked for")
    trace = endpoint.log[endpoint.log.index("bidirectional_stream_fn failed at inference.py, line") :]
    assert "sagemaker_byoc/serving" not in trace.partition("RuntimeError: as the caller")[0]


def test_a_caller_that_vanishes_ends_its_function_and_nobody_elses(endpoint: Endpoint) -> None:
    """15.21: the function sees the end, the log has no error of ours, others go on."""
    endings = endpoint.log.count("the function has ended")
    alarms = alarming_lines(endpoint.log)
    with stream(endpoint) as other:
        with stream(endpoint) as caller:
            caller.send("hello")
            caller.recv(timeout=60)
            caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: endpoint.log.count("the function has ended") > endings, "the function's end")
        other.send("and you?")
        assert other.recv(timeout=60) == "and you?"
    assert alarming_lines(endpoint.log) == alarms


def test_sixteen_streams_at_once_do_not_mix(endpoint: Endpoint) -> None:
    """15.19: each stream has its own function, and requests are answered between."""

    def talk(number: int) -> list[str | bytes]:
        with stream(endpoint) as caller:
            answers: list[str | bytes] = []
            for turn in range(50):
                caller.send(f"{number} {turn}")
                answers.append(caller.recv(timeout=60))
            return answers

    with ThreadPoolExecutor(17) as pool:
        talks = [pool.submit(talk, number) for number in range(16)]
        replies = [endpoint.invoke(b"[1]") for _ in range(50)]
        assert {reply.status for reply in replies} == {200}
        for number, answers in enumerate(talks):
            assert answers.result() == [f"{number} {turn}" for turn in range(50)]


def test_an_async_generator_sends_what_it_yields(serve: Serve) -> None:
    """15.19."""
    with serve("counts_down_a_stream", LANE) as endpoint:
        endpoint.wait_until_ready()
        with stream(endpoint) as caller:
            caller.send("start in")
            assert [caller.recv(timeout=60) for _ in range(3)] == ["start in 3", "start in 2", "start in 1"]


def test_without_the_function_the_caller_is_told_what_to_define(serve: Serve) -> None:
    """15.19: no upgrade, and an answer that says why."""
    with serve("echoes", LANE) as endpoint:
        endpoint.wait_until_ready()
        with pytest.raises(InvalidStatus) as refused, stream(endpoint):
            pass
        response = refused.value.response
        assert response.status_code == 501
        assert (
            "define `async def bidirectional_stream_fn(stream, model)`"
            in json.loads(response.body or b"")["error"]["message"]
        )


def test_before_the_model_is_loaded_a_stream_is_refused(serve: Serve, tmp_path: Path) -> None:
    """14.8, 15.19."""
    with serve("slow_model_fn", {**LANE, "TEST_GATE": str(tmp_path / "gate")}) as endpoint:
        endpoint.wait_for_status(503)
        with pytest.raises(InvalidStatus) as refused, stream(endpoint):
            pass
        assert refused.value.response.status_code == 503


def test_in_the_other_lane_the_log_names_the_lane_that_is_needed(serve: Serve) -> None:
    """15.19."""
    with serve("answers_in_both_directions") as endpoint:
        endpoint.wait_until_ready()
        assert (
            "bidirectional_stream_fn in inference.py is not served: streams in both directions need BYOC_LANE=asgi"
            in endpoint.log
        )
        assert request(endpoint.port, "GET", PATH).status == 501


def test_a_stream_may_be_silent_longer_than_a_request_may_take(serve: Serve) -> None:
    """15.21: pings come each minute, so the time-out of requests is none of streams."""
    with serve("answers_in_both_directions", {**LANE, "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}) as endpoint:
        endpoint.wait_until_ready()
        with stream(endpoint) as caller:
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > 4, "four silent seconds", 10)
            caller.send("still there")
            assert caller.recv(timeout=60) == "still there"


def test_a_stream_may_say_its_last_words_when_the_container_stops(serve: Serve) -> None:
    """13.2, 15.21: going away, within the time that a container has, and exit code 0."""
    with serve("answers_in_both_directions", LANE) as endpoint:
        endpoint.wait_until_ready()
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(stream(endpoint)) for _ in range(4)]
            for caller in callers:
                caller.send("hello")
                assert caller.recv(timeout=60) == "hello"
            began = time.monotonic()
            endpoint.terminate()
            for caller in callers:
                assert caller.recv(timeout=60) == "last words"
                assert closing(caller) == (1001, "")
        assert endpoint.wait() == 0
        assert time.monotonic() - began < 20
        assert alarming_lines(endpoint.log) == []


def test_a_function_that_goes_on_is_cut_off_in_time(serve: Serve) -> None:
    """13.2, 15.21: 1001, and the container ends before it would be killed."""
    with serve("answers_in_both_directions", LANE) as endpoint:
        endpoint.wait_until_ready()
        with stream(endpoint) as caller:
            caller.send("work")
            endpoint.wait_for_line("working")
            began = time.monotonic()
            endpoint.terminate()
            assert closing(caller)[0] == 1001
        assert endpoint.wait() == 0
        assert time.monotonic() - began < 28


def test_a_reload_lets_streams_end_and_takes_new_ones(serve: Serve) -> None:
    """14.8, 15.21: the successor is there before the first worker goes."""
    with serve("answers_in_both_directions", LANE) as endpoint:
        endpoint.wait_until_ready()
        before = endpoint.workers()
        with stream(endpoint) as caller:
            caller.send("hello")
            caller.recv(timeout=60)
            endpoint.process.send_signal(signal.SIGHUP)
            assert closing(caller)[0] == 1001
        with stream(endpoint) as caller:
            caller.send("hello again")
            assert caller.recv(timeout=60) == "hello again"
        wait_until(lambda: endpoint.workers().isdisjoint(before), "the first worker to go")

"""The server's life: ready, busy, wounded, told to stop."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import alarming_lines
from tests.support.opt_ml import OptMl
from tests.support.processes import alive
from tests.support.serving import Endpoint
from tests.support.waiting import quickest, wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file whose coming into being lets a waiting program go on."""
    return tmp_path / "gate"


def test_ping_is_503_while_the_model_loads_and_200_after(serve: Serve, gate: Path) -> None:
    """14.8: ready means ready, and the first answer comes at once."""
    with serve("slow_model_fn", {"TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_for_status(503)
        reply = endpoint.invoke(b"[1]")
        assert reply.status == 503
        assert reply.error["type"] == "ModelNotReady"
        gate.touch()
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"[1]").json == "loaded"


def test_ready_means_every_worker_is_ready(serve: Serve, gate: Path) -> None:
    """14.8: no cold second worker behind a warm first one."""
    env = {"TEST_GATE": str(gate), "SAGEMAKER_MODEL_SERVER_WORKERS": "3"}
    with serve("slow_model_fn", env) as endpoint:
        endpoint.wait_for_status(503)
        gate.touch()
        endpoint.wait_until_ready()
        with ThreadPoolExecutor(12) as pool:
            assert {reply.status for reply in pool.map(lambda _: endpoint.invoke(b"[1]"), range(48))} == {200}


def test_loading_longer_than_the_request_limit_is_no_reason_to_kill_a_worker(serve: Serve, gate: Path) -> None:
    """14.5: loading has minutes, a request has a minute; gunicorn knows only one limit."""
    with serve("slow_model_fn", {"TEST_GATE": str(gate), "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}) as endpoint:
        endpoint.wait_for_line("the code that serves")
        workers = endpoint.workers()
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 4, "four seconds of loading", 10)
        gate.touch()
        endpoint.wait_until_ready()
        assert endpoint.workers() == workers, endpoint.log


def test_ping_is_answered_within_2_seconds_while_every_worker_is_busy(serve: Serve, gate: Path) -> None:
    """14.3, 14.7: a long prediction is no illness."""
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "2"}
    statuses: set[int] = set()
    with serve("slow_predict", env) as endpoint, ThreadPoolExecutor(6) as pool:
        endpoint.wait_until_ready()
        answers = [pool.submit(endpoint.invoke, b"[1]") for _ in range(6)]
        try:
            wait_until(lambda: endpoint.log.count("predicting") >= 2, "both threads to be busy")
            for _ in range(5):
                assert quickest(lambda: statuses.add(endpoint.ping().status), 2) < 2
        finally:
            gate.touch()
        assert [answer.result().status for answer in answers] == [200] * 6
    assert statuses == {200}


def test_stop_lets_the_request_in_flight_finish_and_exits_0(serve: Serve, gate: Path) -> None:
    """13.2: drained, not dropped."""
    with serve("slow_predict", {"TEST_GATE": str(gate)}) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.wait_until_ready()
        answer = pool.submit(endpoint.invoke, b"[1]")
        try:
            endpoint.wait_for_line("predicting")
            endpoint.terminate()
            _wait_until_it_stops_listening_or(endpoint, 1.5)
            assert endpoint.process.poll() is None, "it must wait for the request in flight"
        finally:
            gate.touch()
        assert answer.result().status == 200
        assert endpoint.wait() == 0


def _wait_until_it_stops_listening_or(endpoint: Endpoint, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and endpoint.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", endpoint.port), 0.2).close()
        except OSError:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_idle_server_stops_promptly_and_exits_0(serve: Serve, signum: signal.Signals) -> None:
    """13.2: and leaves no process behind."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        family = endpoint.family()
        began = time.monotonic()
        endpoint.process.send_signal(signum)
        assert endpoint.wait() == 0
        assert time.monotonic() - began < 20
        assert not [process for process in family if alive(process.pid)]


def test_stop_while_the_model_loads_exits_0(serve: Serve, gate: Path) -> None:
    """13.2: an endpoint may be deleted before it was ever ready."""
    with serve("slow_model_fn", {"TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_for_status(503)
        endpoint.terminate()
        assert endpoint.wait() == 0


def test_idle_keep_alive_connection_does_not_hold_the_stop_up(serve: Serve) -> None:
    """13.2: the platform keeps connections open."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        with socket.create_connection(("127.0.0.1", endpoint.port)) as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            began = time.monotonic()
            endpoint.terminate()
            assert endpoint.wait() == 0
            assert time.monotonic() - began < 20


def test_death_of_gunicorn_ends_the_container_with_an_error(serve: Serve) -> None:
    """13.3: so that the platform starts it again; nothing is left behind."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        family = endpoint.family()
        os.kill(endpoint.child("gunicorn").pid, signal.SIGKILL)
        assert endpoint.wait() != 0
        wait_until(lambda: not [p for p in family if alive(p.pid)], "all its processes to be gone")
        assert "gunicorn" in endpoint.log


@pytest.mark.parametrize("front", [pytest.param("on", marks=pytest.mark.nginx, id="nginx")])
def test_death_of_nginx_ends_the_container_with_an_error(serve: Serve) -> None:
    """13.3."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        family = endpoint.family()
        os.kill(endpoint.child("nginx").pid, signal.SIGKILL)
        assert endpoint.wait() != 0
        wait_until(lambda: not [p for p in family if alive(p.pid)], "all its processes to be gone")


def test_killed_worker_is_replaced(serve: Serve) -> None:
    """13.3: one worker is not the server."""
    with serve("predict_exits") as endpoint:
        endpoint.wait_until_ready()
        first = endpoint.invoke(b"1").json
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: endpoint.workers() and first not in endpoint.workers(), "another worker")
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"1").json != first


def test_prediction_that_ends_its_worker_costs_one_request_only(serve: Serve) -> None:
    """13.3: native code may die; the next caller is served."""
    with serve("predict_exits") as endpoint:
        endpoint.wait_until_ready()
        with contextlib.suppress(OSError):  # without nginx nobody is left to answer
            assert endpoint.invoke(b'"die"', seconds=20).status >= 500
        endpoint.wait_until_ready()
        wait_until(lambda: endpoint.invoke(b"1").status == 200, "the next answer")


def test_healthy_life_has_no_alarming_line_in_its_log(serve: Serve) -> None:
    """13.12: silence is part of the promise."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        endpoint.invoke(b"[1]")
        endpoint.terminate()
        endpoint.wait()
        assert alarming_lines(endpoint.log) == []


@pytest.mark.parametrize(("front", "has_nginx"), [("off", False), pytest.param("on", True, marks=pytest.mark.nginx)])
def test_nginx_is_in_front_only_when_asked_for(serve: Serve, has_nginx: bool) -> None:
    """15.31: behind nginx gunicorn listens on a socket of the file system, on no second port."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        assert any("nginx" in process.command for process in endpoint.family()) is has_nginx


def test_prints_of_user_code_reach_the_log_at_once(serve: Serve, gate: Path) -> None:
    """13.12."""
    with serve("slow_predict", {"TEST_GATE": str(gate)}) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.wait_until_ready()
        answer = pool.submit(endpoint.invoke, b"[1]")
        try:
            endpoint.wait_for_line("predicting")
        finally:
            gate.touch()
        assert answer.result().status == 200


WRONG = [
    ("SAGEMAKER_BIND_TO_PORT", "eighty"),
    ("SAGEMAKER_BIND_TO_PORT", "70000"),
    ("SAGEMAKER_MODEL_SERVER_WORKERS", "-1"),
    ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "soon"),
    ("BYOC_THREADS", "0"),
    ("BYOC_NGINX", "maybe"),
    ("BYOC_MODEL_LOAD_TIMEOUT", "nan"),
    ("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "not a type"),
]


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_wrong_setting_stops_the_start_with_64_and_names_it(
    opt_ml: OptMl, tmp_path: Path, variable: str, value: str
) -> None:
    """22.1: a sentence, and no traceback."""
    opt_ml.model_code("echoes")
    with Endpoint(opt_ml, tmp_path / "serve.log", {"BYOC_NGINX": "off", variable: value}) as endpoint:
        assert endpoint.wait() == 64, endpoint.log
        assert variable in endpoint.log
        assert value in endpoint.log
        assert "Traceback" not in endpoint.log


def test_port_in_use_ends_the_start_with_a_sentence(opt_ml: OptMl, tmp_path: Path, front: str) -> None:
    """14.1: better said at once than waited for by a health check."""
    opt_ml.model_code("echoes")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        with Endpoint(
            opt_ml, tmp_path / "serve.log", {"BYOC_NGINX": front, "SAGEMAKER_BIND_TO_PORT": port}
        ) as endpoint:
            assert endpoint.wait(60) != 0
            assert port in endpoint.log

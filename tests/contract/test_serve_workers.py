"""Workers in their slots: reloaded, killed, stuck, too busy."""

import http.client
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.http import request
from tests.support.load import clients
from tests.support.serving import Endpoint
from tests.support.waiting import quickest, wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
ONE = b'{"seconds": 0}'
nginx_only = pytest.mark.parametrize("front", [pytest.param("on", marks=pytest.mark.nginx, id="nginx")])


def version_of(endpoint: Endpoint) -> str:
    version: str = endpoint.invoke(ONE).json["version"]
    return version


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """The file that says which version model_fn loads; the first one is there."""
    (tmp_path / "version").write_text("1")
    return tmp_path / "version"


def folder(versions: Path, **more: str) -> dict[str, str]:
    return {"TEST_FOLDER": str(versions.parent), "SAGEMAKER_MODEL_SERVER_WORKERS": "2", **more}


@nginx_only
def test_reload_under_load_brings_the_new_model_and_fails_no_request(serve: Serve, versions: Path) -> None:
    """13.2, 14.8: SIGHUP replaces worker by worker, each when its successor has loaded."""
    with serve("versions", folder(versions)) as endpoint:
        endpoint.wait_until_ready()
        before = endpoint.workers()
        with clients(endpoint.port, 8, ONE) as load:
            wait_until(lambda: load.answered > 100, "traffic")
            versions.write_text("2")
            endpoint.process.send_signal(signal.SIGHUP)
            endpoint.wait_for_line("reloaded: every slot has a new worker")
            wait_until(lambda: not before & endpoint.workers(), "the old workers to be gone")
            seen = load.answered
            wait_until(lambda: load.answered > seen + 100, "more traffic")
        assert load.failures == []
        assert set(load.statuses) == {200}
        assert {version_of(endpoint) for _ in range(20)} == {"2"}


@nginx_only
def test_reload_of_a_model_that_cannot_be_loaded_changes_nothing(serve: Serve, versions: Path) -> None:
    """14.8: the old workers go on, and the log says why."""
    with serve("versions", folder(versions)) as endpoint:
        endpoint.wait_until_ready()
        before = endpoint.workers()
        versions.write_text("broken")
        endpoint.process.send_signal(signal.SIGHUP)
        endpoint.wait_for_line("the reload is given up")
        assert "this version cannot be loaded" in endpoint.log
        wait_until(lambda: endpoint.workers() == before, "the failed worker to be gone")
        assert {version_of(endpoint) for _ in range(20)} == {"1"}
        versions.write_text("3")
        endpoint.process.send_signal(signal.SIGHUP)
        endpoint.wait_for_line("reloaded: every slot has a new worker")
        wait_until(lambda: version_of(endpoint) == "3", "the new model")


def test_reload_right_after_a_reload_replaces_its_workers_too(serve: Serve, tmp_path: Path) -> None:
    """13.2, 14.8: also while a worker that the first one replaced has a request to finish."""
    gate = tmp_path / "gate"
    with serve("slow_predict", {"TEST_GATE": str(gate)}) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.wait_until_ready()
        held = pool.submit(endpoint.invoke, b"[1]")
        try:
            endpoint.wait_for_line("predicting")
            (first,) = endpoint.workers()
            reload(endpoint, 1)
            (second,) = endpoint.workers() - {first}
            reload(endpoint, 2)
            wait_until(lambda: second not in endpoint.workers(), "the first reload's worker to be gone")
        finally:
            gate.touch()
        assert held.result().status == 200
        wait_until(lambda: first not in endpoint.workers(), "the oldest worker to be gone")
        assert len(endpoint.workers()) == 1


def test_reload_ends_although_the_old_worker_dies_before_its_successor_has_loaded(serve: Serve, tmp_path: Path) -> None:
    """13.3, 14.8."""
    gate = tmp_path / "gate"
    gate.touch()
    with serve("slow_model_fn", {"TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_until_ready()
        (old,) = endpoint.workers()
        gate.unlink()
        endpoint.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(endpoint.workers()) == 2, "its successor")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: old not in endpoint.workers(), "its end")
        assert "reloaded" not in endpoint.log
        gate.touch()
        endpoint.wait_for_line("reloaded: every slot has a new worker")
        assert endpoint.invoke(b"1").status == 200
        assert len(endpoint.workers()) == 1


def reload(endpoint: Endpoint, count: int) -> None:
    """Reload; it is the endpoint's reload of this number."""
    endpoint.process.send_signal(signal.SIGHUP)
    endpoint.wait_for_lines("reloaded: every slot has a new worker", count)


@nginx_only
def test_killed_worker_costs_its_own_requests_only_and_is_soon_back(serve: Serve, versions: Path) -> None:
    """13.3: the other slot answers meanwhile."""
    with serve("versions", folder(versions)) as endpoint:
        endpoint.wait_until_ready()
        victim = endpoint.invoke(ONE).json["pid"]
        with clients(endpoint.port, 8, b'{"seconds": 0.02}') as load:
            wait_until(lambda: load.answered > 50, "traffic")
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda: victim not in endpoint.workers() and len(endpoint.workers()) == 2, "another")
            assert time.monotonic() - killed < 20
            seen = load.answered
            wait_until(lambda: load.answered > seen + 200, "more traffic")
        assert load.failures == []
        assert load.statuses[200] > 200
        assert sum(load.statuses.values()) - load.statuses[200] <= 8, load.statuses


@nginx_only
@pytest.mark.parametrize("lane", ["wsgi", "asgi"])
def test_callers_who_do_not_end_their_bodies_take_nobodys_place(serve: Serve, lane: str) -> None:
    """14.4: four times as many of them as the worker has places, and a few with long bodies."""
    with serve("echoes", {"BYOC_LANE": lane, "BYOC_QUEUE_LIMIT": "12"}) as endpoint, ExitStack() as stack:
        endpoint.wait_until_ready()
        for length in (*[1000] * 80, *[2_000_000] * 10):
            stack.enter_context(begin(endpoint, length, b"[1"))
        replies = [endpoint.invoke(b"[1]", seconds=15) for _ in range(5)]
        assert [reply.status for reply in replies] == [200] * 5


@nginx_only
def test_worker_that_ends_while_bodies_are_on_their_way_costs_none_of_them(serve: Serve, versions: Path) -> None:
    """13.3: it gets a request when its body is whole; what is too long for that is answered, and the connection ends as
    it was told.
    """
    with serve("versions", folder(versions, BYOC_QUEUE_LIMIT="0")) as endpoint, ExitStack() as stack:
        endpoint.wait_until_ready()
        short = [stack.enter_context(begin(endpoint, len(ONE), ONE[:3])) for _ in range(8)]
        long = [stack.enter_context(begin(endpoint, 2_000_000, ONE)) for _ in range(8)]
        wait_until(
            lambda: all(held(worker) == 4 for worker in endpoint.workers()), "the long ones to be at the workers"
        )
        victim = min(endpoint.workers())
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: victim not in endpoint.workers() and len(endpoint.workers()) == 2, "another")
        for connection in short:
            connection.sendall(ONE[3:])
            assert answer_on(connection)[0] == 200
        wait_until(lambda: len([each for each in long if has_answer(each)]) >= 4, "the others to be told")
        assert [answer_on(connection) for connection in long if has_answer(connection)].count((502, "close")) == 4


def begin(endpoint: Endpoint, length: int, part: bytes) -> socket.socket:
    """A connection with the beginning of a request whose body has this length."""
    connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=30)
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    connection.sendall(head.encode() + part)
    return connection


def held(worker: int) -> int:
    """The connections that a worker has accepted on its slot's socket."""
    own = set()
    for file in Path(f"/proc/{worker}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(file.readlink()))
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
    connected = [
        inode for *_, state, inode, path in (row for row in rows if len(row) == 8) if state == "03" and "/slot-" in path
    ]
    return len([inode for inode in connected if f"socket:[{inode}]" in own])


def has_answer(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


def answer_on(connection: socket.socket) -> tuple[int, str]:
    """The status of the answer that comes on a connection, and what it says will become of the connection."""
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    reply.read()
    return reply.status, reply.getheader("Connection") or ""


@pytest.mark.parametrize("lane", ["wsgi", "asgi"])
def test_request_after_the_only_workers_end_waits_for_the_next_one(serve: Serve, tmp_path: Path, lane: str) -> None:
    """13.3: its socket stays, and so does a caller's patience, however long the next one loads."""
    gate = tmp_path / "gate"
    gate.touch()
    env = {"TEST_GATE": str(gate), "BYOC_LANE": lane}
    with serve("slow_model_fn", env) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.wait_until_ready()
        (first,) = endpoint.workers()
        gate.unlink()
        os.kill(first, signal.SIGKILL)
        endpoint.wait_for_line("not ready: no worker has a model")
        asked = pool.submit(endpoint.invoke, b"[1]")
        try:
            wait_until(lambda: endpoint.workers() - {first}, "another worker")
            assert endpoint.ping().status == 503
        finally:
            gate.touch()
        assert asked.result().json == "loaded"


@nginx_only
def test_worker_whose_threads_are_all_stuck_is_replaced(serve: Serve) -> None:
    """14.7: callers get 504, the log says where each thread is, and the slot lives again."""
    env = {"BYOC_THREADS": "2", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}
    with serve("sticks", env) as endpoint, ThreadPoolExecutor(2) as pool:
        endpoint.wait_until_ready()
        (first,) = endpoint.workers()
        stuck = list(pool.map(lambda _: endpoint.invoke(b'"lock"'), range(2)))
        assert [reply.status for reply in stuck] == [504, 504]
        endpoint.wait_for_line("all 2 threads of this worker are in a function that has not returned in time")
        wait_until(lambda: endpoint.invoke(b"1").status == 200, "the slot to live again")
        assert first not in endpoint.workers()
        assert 'inference.py", line' in endpoint.log


@nginx_only
def test_one_stuck_thread_is_no_reason_to_replace_a_worker(serve: Serve) -> None:
    """14.7."""
    env = {"BYOC_THREADS": "2", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1"}
    with serve("sticks", env) as endpoint:
        endpoint.wait_until_ready()
        (first,) = endpoint.workers()
        assert endpoint.invoke(b'"lock"').status == 504
        until, answered = time.monotonic() + 5, set()
        while time.monotonic() < until or not answered:
            reply = endpoint.invoke(b"1")
            if reply.status != 504:  # a second is not much on a busy machine
                answered.add(reply.json)
        assert answered == {first}


@nginx_only
def test_too_many_requests_are_turned_away_at_once_with_retry_after(serve: Serve, tmp_path: Path) -> None:
    """15.4, 15.10: bounded queues; nginx refuses what they cannot hold."""
    gate = tmp_path / "gate"
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "1", "BYOC_QUEUE_LIMIT": "2", "BYOC_OVERLOAD_STATUS": "429"}
    with serve("slow_predict", env) as endpoint, ThreadPoolExecutor(5) as pool:
        endpoint.wait_until_ready()
        asked = [pool.submit(endpoint.invoke, b"[1]") for _ in range(5)]
        try:
            wait_until(lambda: len([reply for reply in asked if reply.done()]) == 2, "two refusals")
            assert quickest(lambda: endpoint.invoke(b"[1]"), 1) < 1
            refused = endpoint.invoke(b"[1]")
            assert refused.error["type"] == "Overloaded"
            assert refused.headers["retry-after"] == "1"
        finally:
            gate.touch()
        assert sorted(reply.result().status for reply in asked) == [200, 200, 200, 429, 429]


@nginx_only
def test_request_whose_caller_has_gone_never_reaches_the_model(serve: Serve, tmp_path: Path) -> None:
    """15.2: nobody waits for it any more."""
    gate = tmp_path / "gate"
    env = {"TEST_GATE": str(gate), "BYOC_THREADS": "1", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "2"}
    with serve("slow_predict", env) as endpoint, ThreadPoolExecutor(4) as pool:
        endpoint.wait_until_ready()
        replies = list(pool.map(lambda _: endpoint.invoke(b"[1]").status, range(4)))
        assert replies == [504] * 4
        gate.touch()
        tries = 1
        while endpoint.invoke(b"[1]").status != 200:  # two seconds are not much on a busy machine
            tries += 1
        assert 2 <= endpoint.log.count("predicting") <= 1 + tries


@nginx_only
def test_each_slot_gets_its_share_and_none_has_a_queue_while_another_is_idle(serve: Serve) -> None:
    """14.7: nginx sees how busy each worker is."""
    env = {"SAGEMAKER_MODEL_SERVER_WORKERS": "4"}
    with serve("works_on_one_core", env) as endpoint:
        endpoint.wait_until_ready()

        def share_of_the_least() -> float:
            with clients(endpoint.port, 4, b'{"seconds": 0.02}') as load:
                wait_until(lambda: load.answered > 400, "traffic")
            return 4 * min(load.bodies.values()) / load.answered if len(load.bodies) == 4 else 0.0

        # A worker may stand still now and then on a busy machine, but not each time.
        assert any(share_of_the_least() > 0.8 for _ in range(5))


@nginx_only
def test_body_over_the_limit_is_refused_before_it_is_read(serve: Serve) -> None:
    """15.3: 413, as JSON."""
    with serve("echoes", {"BYOC_MAX_REQUEST_MB": "1"}) as endpoint:
        endpoint.wait_until_ready()
        reply = endpoint.invoke(b"1" * (1 << 20) + b"1")
        assert reply.status == 413
        assert "BYOC_MAX_REQUEST_MB" in reply.error["message"]


def test_one_line_of_json_tells_of_each_request(serve: Serve) -> None:
    """13.12: with the caller's inference id, on standard output."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        endpoint.invoke(b"[1, 2]", headers={"X-Amzn-SageMaker-Inference-Id": 'an "id"'})
        endpoint.wait_for_line("inference_id")
        line = json.loads(next(line for line in endpoint.log.splitlines() if "inference_id" in line))
        assert line["inference_id"] == 'an "id"'
        assert (line["method"], line["path"], line["status"]) == ("POST", "/invocations", 200)
        assert (line["request_bytes"], line["response_bytes"]) == (6, 5)
        assert isinstance(line["milliseconds"], int)


@nginx_only
def test_worker_that_stands_still_is_ended_with_its_stacks_in_the_log(serve: Serve, versions: Path) -> None:
    """14.7: native code that keeps Python's lock cannot be asked; the master sees that nothing moves."""
    env = {**folder(versions), "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1", "BYOC_SILENT_SECONDS": "2"}
    with serve("sticks", env) as endpoint:
        endpoint.wait_until_ready()
        before = endpoint.workers()
        assert endpoint.invoke(b'"python"').status == 504
        endpoint.wait_for_line("has not moved for")
        endpoint.wait_for_line('inference.py", line')
        wait_until(lambda: endpoint.workers() - before, "another worker")
        wait_until(lambda: endpoint.invoke(b"1").status == 200, "an answer")


@nginx_only
def test_first_piece_of_a_stream_leaves_before_the_second_is_made(serve: Serve, tmp_path: Path) -> None:
    """15.11: chunked, unbuffered."""
    import http.client

    gate = tmp_path / "gate"
    with serve("streams_numbers", {"TEST_GATE": str(gate)}) as endpoint:
        endpoint.wait_until_ready()
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)
        connection.request("POST", "/invocations", b'{"count": 3, "gate": true}', {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert reply.getheader("Transfer-Encoding") == "chunked"
        assert reply.readline() == b'{"number":0}\n'
        gate.touch()
        assert reply.read() == b'{"number":1}\n{"number":2}\n'


def test_stream_in_both_directions_is_refused_with_the_setting_that_it_needs(serve: Serve) -> None:
    """15.19: by a lane that has no event loop."""
    with serve("echoes") as endpoint:
        endpoint.wait_until_ready()
        reply = request(endpoint.port, "GET", "/invocations-bidirectional-stream")
        assert reply.status == 501
        assert "BYOC_LANE=asgi" in reply.error["message"]


@nginx_only
def test_pause_of_the_whole_container_costs_no_worker(serve: Serve, versions: Path) -> None:
    """14.7: `docker pause` stops the clock that nobody can see."""
    env = {**folder(versions), "SAGEMAKER_MODEL_SERVER_TIMEOUT": "1", "BYOC_SILENT_SECONDS": "2"}
    with serve("versions", env) as endpoint:
        endpoint.wait_until_ready()
        workers = endpoint.workers()
        everybody = [endpoint.process.pid, *(process.pid for process in endpoint.family())]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        paused = time.monotonic()
        wait_until(lambda: time.monotonic() - paused > 5, "five seconds", 10)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        woken = time.monotonic()
        wait_until(lambda: time.monotonic() - woken > 2.5, "the master to have looked twice", 10)
        wait_until(lambda: endpoint.invoke(ONE).status == 200, "an answer")
        assert endpoint.workers() == workers, endpoint.log

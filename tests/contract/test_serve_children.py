"""Processes that the model's code starts: they last as long as their worker, and no stop waits for them."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
KILLED = "was sent SIGKILL"  # gunicorn's words for a worker that did not end by itself


@pytest.fixture
def front() -> str:
    """It is gunicorn's workers that have children."""
    return "off"


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("lane", ["wsgi", "asgi"])
def test_stop_answers_what_is_being_computed_in_a_child_and_then_ends_all_children(
    serve: Serve, tmp_path: Path, lane: str
) -> None:
    """13.2: the worker ends by itself, though Python would wait for its children."""
    mark = tmp_path / "started"
    with serve("starts_children", {"BYOC_LANE": lane}) as endpoint, ThreadPoolExecutor(1) as callers:
        endpoint.wait_until_ready()
        reply = callers.submit(endpoint.invoke, json.dumps({"started": str(mark), "value": 6}).encode())
        wait_until(mark.exists, "the request to be with the child")
        family = endpoint.family()
        assert len(family) >= 6
        endpoint.terminate()
        assert reply.result(60).json == 7
        assert endpoint.wait(60) == 0
        assert KILLED not in endpoint.log
        for member in family:
            wait_until(lambda pid=member.pid: _has_ended(pid), f"{member} to end")


def test_reload_leaves_no_child_of_the_old_worker(serve: Serve) -> None:
    """13.2: an old worker that waited for its children would stay for ever."""
    with serve("starts_children") as endpoint:
        endpoint.wait_until_ready()
        master, (old,) = endpoint.child("gunicorn").pid, endpoint.workers()
        family = {member.pid for member in endpoint.family()} - {master}
        os.kill(endpoint.process.pid, signal.SIGHUP)
        endpoint.wait_for_line("reloaded: every slot has a new worker")
        for pid in {old, *family}:
            wait_until(lambda pid=pid: _has_ended(pid), f"process {pid} of the old worker to end")
        assert endpoint.ping().status == 200

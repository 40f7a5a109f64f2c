"""Stateful sessions as callers see them, with two workers, nginx and without."""

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.http import Reply
from tests.support.serving import Endpoint
from tests.support.waiting import wait_until

Serve = Callable[..., AbstractContextManager[Endpoint]]
SESSION = "X-Amzn-SageMaker-Session-Id"
NEW = "x-amzn-sagemaker-new-session-id"
CLOSED = "x-amzn-sagemaker-closed-session-id"
ON = {"SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}


def ask(endpoint: Endpoint, body: bytes, session: str | None = None) -> Reply:
    return endpoint.invoke(body, headers={} if session is None else {SESSION: session})


def opened(endpoint: Endpoint) -> str:
    reply = ask(endpoint, b'{"requestType": "NEW_SESSION"}', "NEW_SESSION")
    assert reply.status == 200, reply.body
    return reply.headers[NEW].partition(";")[0]


@pytest.mark.parametrize("way", [{"BYOC_SHORTCUT": "on"}, {"BYOC_SHORTCUT": "off"}, {"BYOC_LANE": "asgi"}], ids=str)
def test_a_session_is_opened_used_and_closed(serve: Serve, way: dict[str, str]) -> None:
    """15.15, 15.16, 28.7: both headers open it, whatever answers."""
    with serve("remembers", {**ON, **way}) as endpoint:
        endpoint.wait_until_ready()
        reply = ask(endpoint, b'{"requestType": "NEW_SESSION"}', "NEW_SESSION")
        found = re.fullmatch(r"(\S{1,256}); Expires=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)", reply.headers[NEW])
        assert found, reply.headers
        assert reply.headers[SESSION.lower()] == reply.headers[NEW]
        ends = datetime.strptime(found[2], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert timedelta(minutes=19) < ends - datetime.now(UTC) < timedelta(minutes=21)
        assert reply.json["sessionId"] == found[1]
        for count in (1, 2, 3):
            used = ask(endpoint, b'"count"', found[1])
            assert used.json["count"] == count
            assert NEW not in used.headers
        closed = ask(endpoint, b'{"requestType": "CLOSE"}', found[1])
        assert closed.status == 200
        assert closed.headers[CLOSED] == found[1]
        after = ask(endpoint, b'"count"', found[1])
        assert (after.status, after.error["type"]) == (400, "InvalidSession")


def test_any_body_may_open_a_session_and_a_function_may_close_it(serve: Serve) -> None:
    """15.15, 15.16: the header is what opens; what the body says is the model's."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        reply = ask(endpoint, b'"count"', "NEW_SESSION")
        name = reply.headers[NEW].partition(";")[0]
        assert reply.json["session"] == name
        closed = ask(endpoint, b'"close"', name)
        assert closed.headers[CLOSED] == name
        assert ask(endpoint, b'"count"', name).status == 400
        assert ask(endpoint, b'{"requestType": "CLOSE"}').status == 400, "there is none to close"


def test_no_update_is_lost_between_workers(serve: Serve) -> None:
    """15.17: requests of one session, in whichever worker, one after the other."""
    with serve("remembers", ON) as endpoint, ThreadPoolExecutor(8) as pool:
        endpoint.wait_until_ready()
        name = opened(endpoint)
        replies: list[Reply] = []

        def both_have_answered() -> bool:
            replies.extend(pool.map(lambda _: ask(endpoint, b'"count"', name), range(80)))
            return len({reply.json["pid"] for reply in replies}) == 2

        wait_until(both_have_answered, "an answer of each worker")
        assert sorted(reply.json["count"] for reply in replies) == list(range(1, len(replies) + 1))


def test_sessions_outlive_the_worker_that_opened_them(serve: Serve) -> None:
    """15.17."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        name = opened(endpoint)
        assert ask(endpoint, b'"count"', name).json["count"] == 1
        old = endpoint.workers()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(endpoint.workers() - old) == 2, "two new workers")
        endpoint.wait_until_ready()
        wait_until(lambda: ask(endpoint, b'"read"', name).status == 200, "an answer")
        assert ask(endpoint, b'"count"', name).json["count"] == 2


def test_a_session_keeps_bytes_and_files(serve: Serve) -> None:
    """15.17: and takes them along when it ends."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        name = opened(endpoint)
        told = ask(endpoint, b'{"bytes": 3000000}', name).json
        assert told["length"] == 3_000_000
        notes = Path(told["path"], "notes.txt")
        assert notes.read_text() == "a file of its own"
        ask(endpoint, b'{"requestType": "CLOSE"}', name)
        assert not notes.exists()


@pytest.mark.parametrize(
    "name", ["x", "../../etc", "NEW_SESSIONS", "0" * 5000, "ffffffff-" + "A" * 32, "%00", "a/b; c"]
)
def test_what_is_no_session_of_ours_is_400(serve: Serve, name: str) -> None:
    """15.16: malformed, or simply unknown."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        reply = ask(endpoint, b'"count"', name)
        assert (reply.status, reply.error["type"]) == (400, "InvalidSession"), reply.body


def test_an_expired_session_is_400_and_its_files_go(serve: Serve, tmp_path: Path) -> None:
    """15.16, 15.17: swept by those that come later."""
    folder = tmp_path / "sessions"
    env = {**ON, "SAGEMAKER_SESSIONS_EXPIRATION": "1", "SAGEMAKER_SESSIONS_PATH": str(folder)}
    with serve("remembers", env) as endpoint:
        endpoint.wait_until_ready()
        name = opened(endpoint)
        assert (folder / name).is_dir()
        wait_until(lambda: ask(endpoint, b'"read"', name).status == 400, "the session to end")
        assert "has expired" in ask(endpoint, b'"read"', name).error["message"]
        opened(endpoint)
        assert not (folder / name).exists()


def test_a_request_that_fails_opens_no_session_and_spoils_none(serve: Serve, tmp_path: Path) -> None:
    """15.15: the caller of a failed request never learns the id, so nothing is kept under it."""
    folder = tmp_path / "sessions"
    with serve("remembers", {**ON, "SAGEMAKER_SESSIONS_PATH": str(folder)}) as endpoint:
        endpoint.wait_until_ready()
        reply = ask(endpoint, b'"fail"', "NEW_SESSION")
        assert reply.status == 500
        assert NEW not in reply.headers
        assert [path for path in folder.iterdir() if path.is_dir()] == []
        name = opened(endpoint)
        assert ask(endpoint, b'"fail"', name).status == 500
        assert ask(endpoint, b'"read"', name).status == 200, "the session goes on, and is not locked"


def test_a_stream_belongs_to_its_session_to_the_end(serve: Serve) -> None:
    """15.16, 15.11: what makes the pieces may still keep something."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        name = opened(endpoint)
        for _ in range(4):
            assert ask(endpoint, b'"stream"', name).body == b"012"
        assert ask(endpoint, b'"read"', name).json["count"] == 2


def test_without_the_setting_the_headers_are_the_functions_own_business(serve: Serve) -> None:
    """15.15: a model that keeps sessions itself, as the developer guide's example does, is left alone."""
    with serve("remembers", {"SAGEMAKER_MODEL_SERVER_WORKERS": "1"}) as endpoint:
        endpoint.wait_until_ready()
        for name in ("NEW_SESSION", "x"):
            reply = ask(endpoint, b'"none"', name)
            assert (reply.status, reply.json["session"]) == (200, None)
            assert NEW not in reply.headers


def test_without_a_session_nothing_changes(serve: Serve) -> None:
    """15.15: most callers have none."""
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        reply = ask(endpoint, b'"none"')
        assert (reply.status, reply.json["session"]) == (200, None)
        assert not {NEW, CLOSED, SESSION.lower()} & set(reply.headers)


def test_nothing_is_left_in_shared_memory_after_the_end(serve: Serve) -> None:
    """15.17, 13.2."""
    before = set(Path("/dev/shm").iterdir())
    with serve("remembers", ON) as endpoint:
        endpoint.wait_until_ready()
        opened(endpoint)
        endpoint.terminate()
        assert endpoint.wait() == 0
        mine = {path for path in Path("/dev/shm").iterdir() if path.name.endswith("-sessions")}
        assert not mine - before

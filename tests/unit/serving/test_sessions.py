"""Sessions as files: ids, expiry, room and locks, without a server."""

import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sagemaker_byoc.errors import DeadlineExceeded, InvalidSession, NotEnoughMemory, PlatformInputError
from sagemaker_byoc.serving import sessions as module
from sagemaker_byoc.serving.exchange import Answer, Request
from sagemaker_byoc.serving.session_requests import WithSessions
from sagemaker_byoc.serving.sessions import Session, Sessions, own_folder


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "sessions", 60)


@contextmanager
def held(sessions: Sessions, name: str, deadline: float = math.inf) -> Iterator[Session]:
    lock = sessions.take(name, deadline)
    try:
        yield lock.session
    finally:
        sessions.give_back(lock)


@pytest.mark.parametrize("value", [None, 0, "text", [1, {"a": [None]}], b"", b"\x00\xff", bytearray(b"ab")])
def test_what_is_put_comes_back(sessions: Sessions, value: object) -> None:
    """15.17: JSON and bytes, whatever the key's letters are."""
    session = sessions.open()
    for key in ("a", "../../etc/passwd", "x" * 5000, "ü/\0", ""):
        session.put(key, value)
        assert session.get(key, "absent") == value
        session.delete(key)
        session.delete(key)
        assert session.get(key, "absent") == "absent"
    assert {path.parent for path in session.folder.rglob("*")} <= {session.folder}


def test_what_json_cannot_hold_is_a_type_error_and_keeps_what_was_there(sessions: Sessions) -> None:
    """15.17."""
    session = sessions.open()
    session.put("a", 1)
    with pytest.raises(TypeError):
        session.put("a", object())
    assert session.get("a") == 1


def test_ids_cannot_be_guessed_and_fit_the_platform(sessions: Sessions) -> None:
    """15.16: at most 256 characters, no two alike."""
    names = {sessions.open().id for _ in range(200)}
    assert len(names) == 200
    assert all(len(name) <= 256 for name in names)
    assert len({name.partition("-")[2][:6] for name in names}) > 190


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", ".swept", "ffffffff-short", "f-" + "A" * 31 + "/"])
def test_a_name_that_is_no_id_never_becomes_a_path(sessions: Sessions, name: str) -> None:
    """15.16."""
    with pytest.raises(InvalidSession, match="no session's id"):
        sessions.take(name, math.inf)


def test_an_expired_session_is_refused_before_anything_is_read_and_swept_later(tmp_path: Path) -> None:
    """15.16, 15.17."""
    now = 1000.0
    sessions = Sessions(tmp_path, 60, lambda: now)
    old = sessions.open()
    now = 1061.0
    with pytest.raises(InvalidSession, match="has expired"):
        sessions.take(old.id, math.inf)
    assert old.folder.exists()
    new = sessions.open()
    assert not old.folder.exists()
    assert new.folder.exists()


def test_a_session_that_expires_in_the_middle_of_a_request_is_left_to_it(tmp_path: Path) -> None:
    """15.17."""
    now = 1000.0
    sessions = Sessions(tmp_path, 60, lambda: now)
    name = sessions.open().id
    with held(sessions, name) as session:
        now = 1061.0
        sessions.open()
        session.put("a", 1)
        assert session.get("a") == 1
    sessions.open()
    assert not session.folder.exists()


def test_a_closed_session_is_unknown_also_to_those_that_wait_for_it(sessions: Sessions) -> None:
    """15.16."""
    name = sessions.open().id
    with ThreadPoolExecutor(1) as pool, held(sessions, name) as session:
        waiting = pool.submit(sessions.take, name, time.monotonic() + 30)
        session.close()
        assert session.folder.exists(), "until the request is over"
    with pytest.raises(InvalidSession, match="unknown or closed"):
        waiting.result(30)
    with pytest.raises(InvalidSession, match="unknown or closed"):
        sessions.take(name, math.inf)


def test_one_request_at_a_time_and_not_longer_than_anybody_waits(sessions: Sessions) -> None:
    """15.16, 15.17."""
    name = sessions.open().id
    with held(sessions, name), pytest.raises(DeadlineExceeded):
        sessions.take(name, time.monotonic() + 0.1)
    with held(sessions, name):
        pass


def test_no_update_is_lost_between_threads(sessions: Sessions) -> None:
    """15.17."""
    name = sessions.open().id

    def add(_: int) -> None:
        with held(sessions, name) as session:
            session.put("n", session.get("n", 0) + 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert Session(name, sessions.open().folder.parent / name).get("n") == 200


def test_the_lock_does_not_outlive_a_request_that_has_forked(sessions: Sessions) -> None:
    """15.17: a child of the function's has the file open still."""
    name = sessions.open().id
    reader, writer = os.pipe()
    with held(sessions, name):
        child = os.fork()
        if child == 0:
            os.read(reader, 1)
            os._exit(0)
    try:
        with held(sessions, name, time.monotonic() + 5):
            pass
    finally:
        os.write(writer, b"x")
        os.waitpid(child, 0)


def test_there_is_a_most_of_sessions(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """15.17: one caller cannot take all the room by opening."""
    monkeypatch.setattr(module, "MOST_SESSIONS", 3)
    for _ in range(3):
        sessions.open()
    with pytest.raises(NotEnoughMemory, match="3 sessions are open"):
        sessions.open()


def test_a_tenth_of_shared_memory_is_left_to_others(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """15.17: 64 MB of shared memory is all that the platform gives."""
    session = sessions.open()
    space = SimpleNamespace(f_blocks=16384, f_bavail=1938, f_frsize=4096)  # 64 MB, of which 1.2 MB may be taken
    monkeypatch.setattr(module.os, "statvfs", lambda _: space)
    session.put("fits", b"x" * 1_000_000)
    with pytest.raises(NotEnoughMemory, match="6 MB of it are kept free"):
        session.put("fits", b"y" * 2_000_000)
    assert session.get("fits") == b"x" * 1_000_000


def test_of_a_large_disk_only_so_much_is_left_as_others_need(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15.17: a disk of 252 GB with 20 GB left has room."""
    space = SimpleNamespace(f_blocks=63 << 20, f_bavail=5 << 20, f_frsize=4096)
    monkeypatch.setattr(module.os, "statvfs", lambda _: space)
    session = sessions.open()
    session.put("fits", b"x" * 1_000_000)
    space.f_bavail = 16500  # 64.5 MB
    with pytest.raises(NotEnoughMemory, match="64 MB of it are kept free"):
        session.put("fits", b"y" * 1_000_000)


@pytest.mark.parametrize(("megabytes", "place"), [(64, "run"), (1024, "shared")])
def test_small_shared_memory_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, megabytes: int, place: str
) -> None:
    """13.13, 15.17: endpoints are said to have 64 MB of it."""
    monkeypatch.setattr(module.os, "statvfs", lambda _: SimpleNamespace(f_blocks=megabytes * 256, f_frsize=4096))
    run = tmp_path / "run-1"
    expected = {"run": run / "sessions", "shared": tmp_path / "run-1-sessions"}
    assert own_folder(run, tmp_path) == expected[place]


def test_a_folder_that_cannot_be_used_is_told_at_start(tmp_path: Path) -> None:
    """15.17."""
    (tmp_path / "file").touch()
    with pytest.raises(PlatformInputError, match="SAGEMAKER_SESSIONS_PATH"):
        Sessions(tmp_path / "file" / "sessions", 60)


class Model:
    joins_requests = False

    def invoke(self, request: Request) -> Answer:
        return Answer(b"told", "text/plain", headers=(("X-Session", request.session.id if request.session else ""),))


@pytest.mark.parametrize(
    "body",
    [b'{"requestType": "OTHER"}', b'{"requestType": ["CLOSE"]}', b'["requestType"]', b'{"requestType":', b"CLOSE"],
)
def test_a_body_that_only_looks_like_an_order_is_the_models(sessions: Sessions, body: bytes) -> None:
    """15.16: the convention claims no more than its two words."""
    answer = WithSessions(Model(), sessions).invoke(Request(body, "application/json", ""))
    assert answer.body == b"told"


def test_what_the_model_has_beside_is_still_there(sessions: Sessions) -> None:
    """15.15: whoever asks whether requests are joined asks the model."""
    assert WithSessions(Model(), sessions).joins_requests is False

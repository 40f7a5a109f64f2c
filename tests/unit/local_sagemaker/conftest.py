"""A fixed time, and a project whose train.py does what a test writes."""

import errno
import os
import socket
import textwrap
from datetime import UTC, datetime

import pytest


@pytest.fixture
def now():
    return datetime(2026, 1, 31, 12, 1, 2, 345000, tzinfo=UTC)


@pytest.fixture
def make_project(tmp_path):
    def make(**programs):
        root = tmp_path / "project"
        (root / "code").mkdir(parents=True)
        for name, text in programs.items():
            (root / "code" / f"{name}.py").write_text(textwrap.dedent(text))
        return root

    return make


@pytest.fixture
def free_listener():
    """A port of 127.0.0.1 that is taken for the length of a test."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def extended_attributes(tmp_path, monkeypatch):
    """Extended attributes of files, in memory where the file system of the tests has none."""
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"")
    except OSError:
        kept = {}

        def identity(path):
            found = path.stat()
            return found.st_ino, found.st_mtime_ns

        def get(path, name):
            try:
                return kept[identity(path), name]
            except KeyError:
                raise OSError(errno.ENODATA, "No data available") from None

        def put(path, name, value):
            kept[identity(path), name] = value

        monkeypatch.setattr(os, "getxattr", get)
        monkeypatch.setattr(os, "setxattr", put)
    finally:
        probe.unlink()

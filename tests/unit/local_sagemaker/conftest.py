"""A fixed time, and a project whose train.py does what a test writes."""

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

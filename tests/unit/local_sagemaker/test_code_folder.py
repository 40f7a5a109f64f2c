"""The user's code folder: what is copied of it, and what is a change."""

import errno
import os
import shutil
import socket
from pathlib import Path

import pytest
from local_sagemaker.code_folder import copy_code, look
from local_sagemaker.errors import UsageError


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("1")
    return folder


def test_caches_hidden_files_and_pipes_are_no_code(code):
    """4.1."""
    before = look(code)
    (code / "__pycache__").mkdir()
    (code / "__pycache__" / "train.pyc").touch()
    (code / ".train.py.swp").touch()
    os.mkfifo(code / "pipe")
    (code / "loop").symlink_to("loop")
    assert look(code) == before
    (code / "model.py").touch()
    assert look(code) != before


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_code_is_copied_without_caches_sockets_and_pipes(tmp_path):
    """4.1."""
    code = tmp_path / "code"
    (code / "__pycache__").mkdir(parents=True)
    (code / "train.py").touch()
    (code / "old.pyc").touch()
    (code / "link").symlink_to("train.py")
    os.mkfifo(code / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(code / "socket"))
        copied = copy_code(code, tmp_path / "copy")
    assert sorted(path.name for path in copied.iterdir()) == ["link", "train.py"]


def test_a_file_that_goes_away_while_code_is_copied_is_left_out(tmp_path, monkeypatch):
    """4.1: an editor has just replaced it."""
    (tmp_path / "code").mkdir()
    for name in ("train.py", "train.py~"):
        (tmp_path / "code" / name).touch()
    copy = shutil.copyfile

    def gone_meanwhile(source, *rest, **options):
        if os.fspath(source).endswith("~"):
            Path(source).unlink()
        return copy(source, *rest, **options)

    monkeypatch.setattr(shutil, "copyfile", gone_meanwhile)
    assert [path.name for path in copy_code(tmp_path / "code", tmp_path / "copy").iterdir()] == ["train.py"]


def test_a_file_of_code_that_cannot_be_copied_is_named(tmp_path, monkeypatch):
    """4.1: a full disk."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").touch()
    monkeypatch.setattr(shutil, "copyfile", no_room)
    with pytest.raises(UsageError, match=r"code/train\.py cannot be copied: .*No space left"):
        copy_code(tmp_path / "code", tmp_path / "copy")

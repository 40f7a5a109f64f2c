"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest
from local_sagemaker.files import write_whole


def test_a_file_that_finds_no_room_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    """1.12."""
    write_whole(tmp_path / "state.json", "old")
    write = Path.write_text

    def until_it_is_full(path, text, **options):
        write(path, text[:1], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", until_it_is_full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "state.json", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("state.json", "old")]

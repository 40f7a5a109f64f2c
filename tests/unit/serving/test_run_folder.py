"""Where a server's sockets are put."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving import run_folder
from sagemaker_byoc.serving.run_folder import LONGEST_PATH, make_run_folder, suits_sockets


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Make this folder the temporary directory, and ``tmp_path`` is no place for sockets."""

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return folder

    return make


@pytest.mark.parametrize(
    "name", ["long" * 30, "with blank", "with;semicolon", "with:colon", "with$dollar", os.fsdecode("späte".encode())]
)
def test_a_temporary_directory_that_suits_no_socket_is_left_for_another(
    temporary: Callable[[Path], Path], tmp_path: Path, name: str
) -> None:
    """13.11: the folder may be in /tmp as well; whatever TMPDIR is called, the container serves."""
    unsuited = temporary(tmp_path / name)
    folder = make_run_folder()
    try:
        assert suits_sockets(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(unsuited.iterdir()) == []
    finally:
        folder.rmdir()


def test_without_any_place_the_message_says_what_each_lacks(
    temporary: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """11.2: every place that was tried, and why not."""
    temporary(tmp_path / "with blank")
    monkeypatch.setattr(run_folder, "_OTHER_PLACES", (str(tmp_path / "missing"),))
    with pytest.raises(PlatformInputError, match=rf"with blank.*over {LONGEST_PATH} bytes.*missing"):
        make_run_folder()


def test_the_longest_name_of_a_socket_fits() -> None:
    """The kernel takes 107 bytes."""
    assert LONGEST_PATH + len("/slot-127.999999.hidden") <= 107
    assert suits_sockets(Path("/" + "x" * (LONGEST_PATH - 1)))
    assert not suits_sockets(Path("/" + "x" * LONGEST_PATH))

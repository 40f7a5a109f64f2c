"""What is run for the program that a job names."""

from pathlib import Path

import pytest
from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.training.entry_point import find_entry_point


def command_for(folder: Path, name: str, content: bytes, mode: int = 0o644) -> tuple[str, ...]:
    script = folder / name
    script.write_bytes(content)
    script.chmod(mode)
    return find_entry_point(name, [folder]).command


@pytest.mark.parametrize(
    ("first_line", "interpreter"),
    [
        (b"#!/bin/bash\n", ("/bin/bash",)),
        (b"#! /usr/bin/env bash\n", ("/usr/bin/env", "bash")),
        (b"#!/bin/bash -e -u \t\n", ("/bin/bash", "-e -u")),
    ],
)
@pytest.mark.parametrize("name", ["run.sh", "train.R"])
def test_a_script_that_may_not_be_executed_keeps_its_own_interpreter(
    tmp_path: Path, name: str, first_line: bytes, interpreter: tuple[str, ...]
) -> None:
    """12.1: the toolkit makes it executable; archives made on Windows have no such right."""
    command = command_for(tmp_path, name, first_line + b"set -o pipefail\n")
    assert command == (*interpreter, str(tmp_path / name))


def test_a_script_that_may_be_executed_runs_itself(tmp_path: Path) -> None:
    """12.1."""
    assert command_for(tmp_path, "run.sh", b"#!/bin/bash\n", 0o755) == (str(tmp_path / "run.sh"),)


@pytest.mark.parametrize("mode", [0o644, 0o755])
@pytest.mark.parametrize("content", [b"", b"#!", b"#!\n", b"echo hi\n"])
def test_a_shell_script_that_names_no_interpreter_is_read_by_the_posix_shell(
    tmp_path: Path, content: bytes, mode: int
) -> None:
    """12.1."""
    assert command_for(tmp_path, "run.sh", content, mode) == ("/bin/sh", str(tmp_path / "run.sh"))


def test_line_ends_of_windows_are_told(tmp_path: Path) -> None:
    """12.1: bash would complain about the first word of the second line."""
    with pytest.raises(UserCodeError, match="line ends of Windows"):
        command_for(tmp_path, "run.sh", b"#!/bin/bash\r\nset -e\r\n")

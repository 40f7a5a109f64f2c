"""`byoc shell` on a terminal of its own: in a container that runs, and in a new one of an image."""

import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from local_sagemaker.engines import ContainerPlan, DockerEngine
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import WORKSPACE_LABEL, Workspace

from tests.support.docker import LABEL
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker


class Terminal:
    """`byoc shell` with a terminal for its standard streams."""

    def __init__(self, *arguments: str) -> None:
        """Start it."""
        self._own, others = pty.openpty()
        command = [sys.executable, "-m", "local_sagemaker", "shell", *arguments]
        self._process = subprocess.Popen(command, stdin=others, stdout=others, stderr=others, start_new_session=True)
        os.close(others)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._own, line.encode() + b"\n")

    def wait_for(self, text: str) -> None:
        """Wait until it is shown."""
        os.set_blocking(self._own, False)
        wait_until(lambda: text in self._read(), f"{text!r} on the terminal", 240, self._ended)

    def exit_code(self) -> int:
        """How it ended."""
        wait_until(lambda: self._read() is not None and self._process.poll() is not None, "the shell to end", 240)
        return int(self._process.returncode)

    def _ended(self) -> str | None:
        return None if self._process.poll() is None else f"it ended; shown was {self.shown}"

    def _read(self) -> str:
        with suppress(OSError):  # nothing new, or the other side is closed
            self.shown += os.read(self._own, 65536).decode("utf-8", "replace")
        return self.shown


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A project with one channel; none of its containers stays."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").touch()
    (tmp_path / "input/data/train").mkdir(parents=True)
    (tmp_path / "input/data/train/a.csv").write_text("1\n")
    made = Workspace.of(tmp_path)
    yield made
    DockerEngine.connect().remove_all({WORKSPACE_LABEL: made.identity})


def test_a_shell_goes_into_the_container_of_the_host_that_is_named(image: str, workspace: Workspace) -> None:
    engine, mark = DockerEngine.connect(), uuid.uuid4().hex[:8]
    workspace.store.create(Kind.TRAINING_JOB, "digits", {}, {"TrainingJobStatus": "InProgress"})
    for host in ("algo-1", "algo-2"):
        engine.start(
            ContainerPlan(
                f"byoc-train-digits-{mark}-{host}",
                "train",
                image,
                workspace.root,
                {},
                hostname=host,
                labels={LABEL: "", **workspace.labels(Kind.TRAINING_JOB, "digits")},
                entrypoint=("sleep", "600"),
            )
        )
    with Terminal("digits", "--host", "algo-2", "--project", str(workspace.root)) as terminal:
        terminal.wait_for("a shell in")
        terminal.type("echo in-$(hostname); exit 7")
        terminal.wait_for("in-algo-2")
        assert terminal.exit_code() == 7
    assert len(engine.find({WORKSPACE_LABEL: workspace.identity})) == 2


def test_a_shell_in_an_image_sees_what_a_job_would_see_and_leaves_nothing(image: str, workspace: Workspace) -> None:
    with Terminal(image, "--project", str(workspace.root)) as terminal:
        terminal.wait_for("a shell in a new container")
        terminal.type(
            "cat /opt/ml/input/data/train/a.csv; ls /opt/ml/code; touch /opt/ml/model/m; echo in $((40+2)) out; exit 0"
        )
        terminal.wait_for("in 42 out")
        assert "train.py" in terminal.shown
        assert terminal.exit_code() == 0
    assert DockerEngine.connect().find({WORKSPACE_LABEL: workspace.identity}) == []
    assert list((workspace.directory / "jobs").iterdir()) == []


def test_without_a_terminal_there_is_no_shell(workspace: Workspace) -> None:
    command = [sys.executable, "-m", "local_sagemaker", "shell", "digits", "--project", str(workspace.root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=240)
    assert done.returncode == 2
    assert b"standard input is no terminal" in done.stderr
    assert b"Traceback" not in done.stderr

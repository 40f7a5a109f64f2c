"""kill -9 of `byoc train` at the moments that matter: no orphan, no lost record, a truthful state."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.engines import DockerEngine
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import WORKSPACE_LABEL, Workspace

from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker
COMMAND = [sys.executable, "-m", "local_sagemaker"]
# How far the job is when it is killed, by what there is of it: a network and two containers in the end.
MOMENTS: dict[str, Callable[[int, Path], bool]] = {
    "a network": lambda parts, _: parts >= 1,
    "a container": lambda parts, _: parts >= 2,
    "a log": lambda _, log: log.exists() and log.read_text().count("hello") == 2,
}


def resources(root: Path) -> list[dict[str, Any]]:
    """What `byoc ps --all` lists."""
    command = [*COMMAND, "ps", "--all", "--json", "--project", str(root)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=240)
    listed: list[dict[str, Any]] = json.loads(done.stdout)["resources"]
    return listed


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_job_has_failed_and_leaves_nothing(image: str, tmp_path: Path, moment: str) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text("import time\nprint('hello', flush=True)\ntime.sleep(600)\n")
    workspace, engine = Workspace.of(tmp_path), DockerEngine.connect()
    of_the_project: dict[str, str | None] = {WORKSPACE_LABEL: workspace.identity}
    log = workspace.directory_of(Kind.TRAINING_JOB, "killed") / "logs.txt"
    job = ["--engine", "docker", "--image", image, "--hosts", "2", "--job-name", "killed"]
    with subprocess.Popen([*COMMAND, "train", str(tmp_path), *job], stdout=subprocess.DEVNULL) as tool:
        try:
            wait_until(
                lambda: MOMENTS[moment](len(engine.labels_of_all(of_the_project)), log),
                moment,
                240,
                lambda: None if tool.poll() is None else f"it ended with {tool.returncode}",
            )
        finally:
            tool.kill()

    def put_right() -> bool:
        # The engine may still be making what it was asked for when the tool was killed.
        (record,) = resources(tmp_path)
        assert record["status"] == "Failed"
        assert "it was killed" in record["failure_reason"]
        return not record["containers"] and not engine.labels_of_all(of_the_project)

    wait_until(put_right, "nothing to be left", 240, interval=1)

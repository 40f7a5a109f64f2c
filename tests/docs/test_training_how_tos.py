"""The how-tos about request documents, spot interruptions and processing jobs: their commands do what they say."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import command_blocks

ROOT = Path(__file__).parents[2]
TRAIN = """
import os, pathlib, sys
print("epochs", *sys.argv[1:], "loss=0.5 accuracy=0.75", flush=True)
pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "model", "w").touch()
"""
PREPARE = """
import os, pathlib, sys
base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "processing")
rows = (base / "raw" / "rows.csv").read_text()
(base / "train" / "rows.csv").write_text(" ".join([*sys.argv[1:], rows]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose training ends at once."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(TRAIN)
    return tmp_path


def commands(page: str) -> list[str]:
    """The commands of a how-to, one after the other."""
    blocks = command_blocks((ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8"))
    text = "\n".join(block.script for block in blocks).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of `byoc`, on a machine without Docker."""
    program, *arguments = shlex.split(command)
    assert program == "byoc"
    paths = os.pathsep.join([str(ROOT / "container"), str(ROOT / "local_test")])
    environment = {**os.environ, "PYTHONPATH": paths, "DOCKER_HOST": "tcp://127.0.0.1:9"}
    ran = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def test_a_request_is_printed_and_run_again_and_flags_win_over_it(project: Path) -> None:
    printed, first, second, metrics = commands("train-from-a-request.md")
    request = json.loads(run(printed, project).stdout)["request"]
    assert request["TrainingJobName"] == "first"
    # The image would have the code; here a plain program stands for it.
    program = [sys.executable, str(project / "code" / "train.py")]
    request["AlgorithmSpecification"]["ContainerEntrypoint"] = program
    (project / "job.yaml").write_text(json.dumps(request))
    run(first, project)
    run(second, project)
    hyperparameters = (project / ".byoc" / "jobs" / "second" / "input" / "config" / "hyperparameters.json").read_text()
    assert json.loads(hyperparameters) == {"epochs": "3"}
    assert "accuracy 0.75, loss 0.5" in run(metrics, project).stderr


def test_an_interruption_is_tried(project: Path) -> None:
    (command,) = commands("try-a-spot-interruption.md")
    ran = run(command, project)
    assert "Completed" in ran.stderr


def test_data_is_processed(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "prepare.py").write_text(PREPARE)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows.csv").write_text("1,2")
    (command,) = commands("process-data.md")
    run(command, tmp_path)
    assert (tmp_path / "input" / "data" / "train" / "rows.csv").read_text() == "--share 0.8 1,2"

"""`byoc tune` with real containers: two training jobs at a time, and nothing left over when it is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import WORKSPACE_LABEL, Workspace
from local_sagemaker.tuning.standing import training_jobs

from tests.support.docker import docker
from tests.support.places import CONTAINER, HARNESS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

# A job whose hyperparameter says so waits to be killed.
TRAIN = """
import argparse
import threading

parser = argparse.ArgumentParser()
parser.add_argument("--size", type=int)
parser.add_argument("--wait", action="store_true")
arguments, _ = parser.parse_known_args()
for epoch in (1, 2):
    print(f"epoch={epoch}; loss={arguments.size / epoch};", flush=True)
if arguments.wait:
    threading.Event().wait()
"""


@dataclass(frozen=True)
class Project:
    """A project, and `byoc tune` in it."""

    root: Path
    image: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        how = ["--engine", "docker", "--image", self.image, "--objective", "loss", "--parallel", "2", "--json"]
        paths = os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])
        return subprocess.Popen(
            [sys.executable, "-m", "local_sagemaker", "tune", str(self.root), *how, "--job-name", name, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def containers(self) -> list[str]:
        return docker("ps", "-aq", "--filter", f"label={WORKSPACE_LABEL}={self.workspace.identity}").split()


@pytest.fixture
def project(tmp_path: Path, image: str) -> Iterator[Project]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(TRAIN, encoding="utf-8")
    made = Project(tmp_path, image)
    yield made
    left = made.containers()
    if left:
        docker("rm", "-f", "-v", *left)


def test_a_killed_search_leaves_no_container_and_the_next_one_finds_the_best(project: Project) -> None:
    """24.1, 24.4, 24.7, 8.1."""
    with project.start("tune", "--strategy", "Random", "--range", "size=1..9", "--static", "wait=") as process:
        wait_until(
            lambda: project.workspace.database.exists() and _reporting(project.workspace) == 2,
            "both training jobs report",
            600,
            lambda: None if process.poll() is None else f"byoc ended with {process.returncode}",
            interval=0.2,
        )
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(project.containers()) == 2
    reconcile(project.workspace)
    assert project.containers() == []
    assert project.workspace.store.get(Kind.TUNING_JOB, "tune").status == "Failed"
    assert {job.status for job in training_jobs(project.workspace, "tune")} == {"Failed"}
    with project.start("again", "--strategy", "Grid", "--range", "size=3,2,4") as process:
        output, log = process.communicate(timeout=900)
    assert process.returncode == 0, log.decode()
    document = json.loads(output)
    found = [one["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] for one in document["TrainingJobSummaries"]]
    assert found == [1.0, 1.5, 2.0]
    assert document["BestTrainingJob"]["TunedHyperParameters"] == {"size": "2"}
    assert project.containers() == []


def _reporting(workspace: Workspace) -> int:
    jobs = training_jobs(workspace, "tune")
    return sum(bool(workspace.store.metrics(Kind.TRAINING_JOB, job.name, "loss")) for job in jobs)

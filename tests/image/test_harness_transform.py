"""`byoc transform` with real containers: this image serves, objects come out, nothing is left over."""

import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

from tests.support.docker import docker
from tests.support.places import CONTAINER, HARNESS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

# Its answer to a row is the row's sum; it takes an hour for a row that says so.
INFERENCE = """
import os
import time

def model_fn(model_dir):
    return float(open(os.path.join(model_dir, "factor")).read())

def input_fn(body, content_type):
    assert os.environ["SAGEMAKER_BATCH"] == "true"
    if "wait" in body:
        print("waiting as told", flush=True)
        time.sleep(3600)
    return [[float(cell) for cell in row.split(",")] for row in body.split()]

def predict_fn(rows, factor):
    return "".join(f"{factor * sum(row):g}\\n" for row in rows)

def output_fn(text, accept):
    return text, "text/csv"
"""
COUNT = 20_000


@dataclass(frozen=True)
class Project:
    """A project with a model, and `byoc transform` in it."""

    root: Path
    image: str

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def command(self, *arguments: str) -> list[str]:
        model = str(self.root / "model.tar.gz")
        where = ["--project", str(self.root), "--image", self.image, "--engine", "docker", "--model", model]
        return [sys.executable, "-m", "local_sagemaker", "transform", *where, *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        paths = os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])
        return subprocess.Popen(
            self.command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )

    def containers(self, name: str) -> list[str]:
        labels = self.workspace.labels(Kind.TRANSFORM_JOB, name)
        filters = [word for key, value in labels.items() for word in ("--filter", f"label={key}={value}")]
        return docker("ps", "-aq", *filters).split()


@pytest.fixture
def project(tmp_path: Path, image: str) -> Iterator[Project]:
    """A model that multiplies by two, and its code."""
    root = tmp_path / "project"
    (root / "code").mkdir(parents=True)
    (root / "code" / "inference.py").write_text(INFERENCE)
    (root / "factor").write_text("2")
    with tarfile.open(root / "model.tar.gz", "w:gz") as tar:
        tar.add(root / "factor", "factor")
    yield Project(root, image)
    for record in Workspace(root).store.find(Kind.TRANSFORM_JOB):
        for container in Project(root, image).containers(record.name):
            docker("rm", "-f", "-v", container)


def said_by(running: subprocess.Popen[str], wanted: str) -> Callable[[], bool]:
    """Whether a command has said something; reads what it says."""
    lines = iter(running.stdout or ())

    def look() -> bool:
        return any(wanted in line for line in lines)

    return look


def test_a_folder_of_rows_is_transformed_by_two_instances_and_joined(project: Project, tmp_path: Path) -> None:
    """15.34, 15.38, 15.40, 15.41: in order, with filters, gone when it is done."""
    (tmp_path / "rows" / "deep").mkdir(parents=True)
    rows = {"x.csv": range(COUNT), "deep/y.csv": range(COUNT, COUNT + 10)}
    for name, numbers in rows.items():
        (tmp_path / "rows" / name).write_text("".join(f"id{n},{n},1\n" for n in numbers))
    name = f"tests-{uuid.uuid4().hex[:12]}"
    arguments = [
        "--job-name", name, "--input", str(tmp_path / "rows"), "--output", str(tmp_path / "out"),
        "--split-type", "Line", "--max-payload", "1", "--max-concurrent", "2", "--instances", "2",
        "--input-filter", "$[1:]", "--join", "--output-filter", "$[0,-1]",
    ]  # fmt: skip
    running = project.start(*arguments)
    text, _ = running.communicate(timeout=900)
    assert running.returncode == 0, text
    for file, numbers in rows.items():
        assert (tmp_path / "out" / f"{file}.out").read_text() == "".join(f"id{n},{2 * (n + 1):g}\n" for n in numbers)
    assert project.containers(name) == []
    assert f"{name}: Completed" in text
    assert f"{COUNT + 10:,} records" in text


def test_a_killed_command_leaves_a_truthful_record_and_no_half_output(project: Project, tmp_path: Path) -> None:
    """23.1, 15.38: Failed with a reason; the complete object stays, a half one never has its name."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "1.csv").write_text("1,2\n")
    (tmp_path / "rows" / "2.csv").write_text("1,2\n3,wait\n")
    name = f"tests-{uuid.uuid4().hex[:12]}"
    arguments = ["--input", str(tmp_path / "rows"), "--split-type", "Line", "--strategy", "SingleRecord"]
    with project.start("--job-name", name, *arguments, "--max-concurrent", "1", "--max-payload", "1") as running:
        said = said_by(running, "waiting as told")
        wait_until(said, "the record that takes long", 300, lambda: running.poll() and "the command has ended")
        assert len(project.containers(name)) == 1
        running.kill()
    reconcile(project.workspace)
    record = project.workspace.store.get(Kind.TRANSFORM_JOB, name)
    assert record.status == "Failed"
    assert record.description["FailureReason"].startswith("InternalServerError: the process that ran it")
    assert project.containers(name) == []
    place = record.request["TransformOutput"]["S3OutputPath"]
    outputs = {item.key.rpartition("/")[2]: item.path.read_text() for item in project.workspace.buckets.objects(place)}
    assert outputs == {"1.csv.out": "6\n"}

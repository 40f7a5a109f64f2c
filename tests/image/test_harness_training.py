"""Training and processing jobs from request documents, where a real container matters."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.api.documents import merge
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.request import default_request

from tests.support.docker import docker
from tests.support.places import CONTAINER, HARNESS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

ECR = "000000000000.dkr.ecr.us-east-1.amazonaws.com"
# What a host of any image does here: looks at what it was given, and changes its channel.
LOOKS_AROUND = """
set -e
cd /opt/ml/input/data
echo "told $*"
cat train/a.csv
echo changed > train/a.csv && touch train/new && cat train/a.csv
cat piped_0 && cat piped_1
touch mine/new mine/f
echo "loss=0.5;"
echo kept > /opt/ml/model/w
"""


def byoc(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=900, check=False, env=environment(), **options
    )


def command(*arguments: object) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "local_sagemaker", *map(str, arguments)]


def environment() -> dict[str, str]:
    """With this checkout's packages."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])}


@pytest.fixture
def name() -> str:
    """A job's name that no other test has."""
    return f"tests-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def write_request(tmp_path: Path, image: str, name: str) -> Callable[..., Path]:
    """A CreateTrainingJob document in a file."""

    def write(script: str, **over: Any) -> Path:
        known = default_request(Workspace(tmp_path), name)
        own = {
            "AlgorithmSpecification": {
                "TrainingImage": f"{ECR}/{image}",
                "ContainerEntrypoint": ["sh", "-c"],
                "ContainerArguments": [script, "sh", "one", "argument"],
            },
            "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large"},
        }
        path = tmp_path / "request.json"
        path.write_text(json.dumps(merge(merge(known, own), over)))
        return path

    return write


def channel(name: str, uri: str, **options: str) -> dict[str, Any]:
    """A channel of a prefix."""
    source = {"S3DataType": "S3Prefix", "S3Uri": uri}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **options}


def test_a_document_runs_any_image_and_its_job_may_write_to_its_channels(
    tmp_path: Path, name: str, write_request: Callable[..., Path]
) -> None:
    """1.4, 3.3, 3.4, 3.6, 8.1: an image of ECR is found by its name; data stays as it is."""
    buckets = Workspace(tmp_path).buckets
    buckets.put_bytes("s3://bucket/train/a.csv", b"original\n")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "f").write_text(LOOKS_AROUND)
    request = write_request(
        ". /opt/ml/input/data/mine/f",
        InputDataConfig=[
            channel("train", "s3://bucket/train/"),
            channel("piped", "s3://bucket/train/", InputMode="Pipe"),
        ],
    )
    ran = byoc(
        "train", tmp_path, "--request", request, "--engine", "docker", "--channel", f"mine={mine}", "--json",
        "--metric", "loss=loss=([0-9.]+)",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "told one argument\noriginal\nchanged\noriginal\noriginal\n" in ran.stderr
    document = json.loads(ran.stdout)
    assert (document["status"], document["metrics"]) == ("Completed", {"loss": 0.5})
    assert buckets.read_bytes("s3://bucket/train/a.csv") == b"original\n"
    assert sorted(path.name for path in mine.iterdir()) == ["f"]
    assert (mine / "f").read_text() == LOOKS_AROUND
    described = byoc("train", tmp_path, "--request", request, "--dry-run", "--json", "--job-name", "other")
    assert json.loads(described.stdout)["request"]["TrainingJobName"] == "other"
    assert buckets.exists(f"s3://{Workspace(tmp_path).default_bucket}/{name}/output/model.tar.gz")


def test_a_fast_file_channel_is_read_only(tmp_path: Path, write_request: Callable[..., Path]) -> None:
    """3.4, 26.6."""
    Workspace(tmp_path).buckets.put_bytes("s3://bucket/train/a.csv", b"original\n")
    request = write_request(
        "cat /opt/ml/input/data/train/a.csv; touch /opt/ml/input/data/train/new",
        InputDataConfig=[channel("train", "s3://bucket/train/", InputMode="FastFile")],
    )
    ran = byoc("train", tmp_path, "--request", request, "--engine", "docker")
    assert ran.returncode == 1
    assert "original\n" in ran.stdout  # the two streams have no common order
    assert "Read-only file system" in ran.stdout


def test_a_spot_job_on_two_hosts_goes_on_from_its_checkpoints(
    tmp_path: Path, name: str, write_request: Callable[..., Path]
) -> None:
    """7.2, 7.5, 7.6: fresh containers on all hosts, killed without a signal."""
    script = (
        "echo found $(ls /opt/ml/checkpoints) and $(ls /opt/ml/model); touch /opt/ml/checkpoints/$(hostname) "
        "/opt/ml/model/$(hostname); test $(ls /opt/ml/checkpoints | wc -l) -gt 1 || sleep 600"
    )
    request = write_request(script, ResourceConfig={"InstanceCount": 2})
    # A starved machine may do nothing within the first attempt; then the second one, which is longer, stands for it.
    chaos = ["--chaos", "spot-after=3s:kill", "--chaos", "spot-after=60s:kill"]
    ran = byoc("train", tmp_path, "--request", request, "--engine", "docker", *chaos)
    assert ran.returncode == 0, ran.stderr
    found = sorted(line.partition(" | ")[2] for line in ran.stdout.splitlines())
    assert found[:2] == ["found algo-1 algo-2 and", "found algo-1 algo-2 and"]
    assert "found and" in found
    assert all(line.endswith(" and") for line in found)
    assert re.search("[23] attempts", ran.stderr)
    assert left_over(name) == []


def test_a_killed_byoc_leaves_nothing_that_the_next_verb_does_not_put_right(
    tmp_path: Path, name: str, write_request: Callable[..., Path]
) -> None:
    """The container is found by its labels and removed, and the job has Failed."""
    request = write_request("echo ready; sleep 600")
    out = tmp_path / "out"
    with out.open("wb") as sink:
        arguments = command("train", tmp_path, "--request", request, "--engine", "docker")
        with subprocess.Popen(arguments, stdout=sink, stderr=sink, env=environment()) as process:
            wait_until(lambda: "ready" in out.read_text(), "the job", 300)
            process.send_signal(signal.SIGKILL)
    assert left_over(name) != []
    second = write_request("true", TrainingJobName=f"{name}-2")
    assert byoc("train", tmp_path, "--request", second, "--engine", "docker").returncode == 0
    assert left_over(name) == []
    record = next(one for one in Workspace(tmp_path).store.find() if one.name == name)
    assert record.status == "Failed"
    assert "was killed" in record.description["FailureReason"]


def test_a_processing_job_of_two_hosts(tmp_path: Path, image: str, name: str) -> None:
    """10.1, 10.3, 10.4, 10.5."""
    data = tmp_path / "data"
    data.mkdir()
    for letter in "ab":
        (data / letter).write_text(letter)
    script = (
        "cp /opt/ml/processing/in/* /opt/ml/processing/out/; echo -n $(hostname) > /opt/ml/output/message;"
        " cat /opt/ml/config/resourceconfig.json > /opt/ml/processing/out/$(hostname).json"
    )
    ran = byoc(
        "process", "--project", tmp_path, "--image", image, "--engine", "docker", "--job-name", name, "--hosts", 2,
        "--entrypoint", "sh -c", "--input", f"data={data}:/opt/ml/processing/in", "--sharded", "data",
        "--output", f"out=/opt/ml/processing/out:{tmp_path}/out", "--json", "--", script,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["ExitMessage"] == "algo-1algo-2"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "algo-1.json", "algo-2.json", "b"]
    assert json.loads((tmp_path / "out" / "algo-2.json").read_text())["hosts"] == ["algo-1", "algo-2"]
    first = tmp_path / ".byoc" / "processing" / name / "hosts" / "algo-1" / "outputs" / "out"
    assert sorted(path.name for path in first.iterdir()) == ["a", "algo-1.json"]
    assert left_over(name) == []


def left_over(job: str) -> list[str]:
    """The containers and networks of a job that are still there."""
    label = f"label=sagemaker-byoc.job={job}"
    return docker("ps", "-aq", "--filter", label).split() + docker("network", "ls", "-q", "--filter", label).split()

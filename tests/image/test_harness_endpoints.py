"""`byoc endpoint` with real containers: traffic while everything changes, kills, isolation; boto3 is the client."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import ROLE_ARN, Workspace

from tests.support.docker import docker
from tests.support.places import CONTAINER, HARNESS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker

MODEL = """
import time
def model_fn(model_dir):
    return {name!r}
def predict_fn(data, model):
    time.sleep({seconds})
    return {{"by": model, "heard": data}}
"""


@dataclass(frozen=True)
class Project:
    """A project whose endpoints run on Docker, by the command."""

    root: Path
    image: str

    @property
    def workspace(self) -> Workspace:
        return Workspace.of(self.root)

    def byoc(self, *words: str, code: int = 0) -> str:
        path = os.pathsep.join(map(str, (CONTAINER, HARNESS)))
        command = [sys.executable, "-m", "local_sagemaker", *words, "--project", str(self.root)]
        ran = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=600, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stdout

    def model(self, name: str, seconds: float = 0.0) -> str:
        folder = self.root / name
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "inference.py").write_text(MODEL.format(name=name, seconds=seconds))
        return str(folder)

    def create(self, name: str, *options: str) -> str:
        self.byoc("endpoint", "create", name, "--engine", "docker", "--image", self.image, *options)
        return self.url(name)

    def url(self, name: str) -> str:
        return str(json.loads(self.byoc("endpoint", "describe", name, "--json"))["Local"]["Url"])

    def containers(self, name: str) -> list[str]:
        return docker(
            "ps",
            "-q",
            "--filter",
            f"label=sagemaker-byoc.name={name}",
            "--filter",
            f"label=sagemaker-byoc.workspace={self.workspace.identity}",
        ).split()


@pytest.fixture
def project(tmp_path: Path, image: str) -> Iterator[Project]:
    made = Project(tmp_path, image)
    yield made
    for record in made.workspace.store.find(Kind.ENDPOINT):
        made.byoc("endpoint", "delete", record.name)
        assert made.containers(record.name) == []


def client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"max_attempts": 0}, max_pool_connections=16),
    )


def ask(runtime: Any, endpoint: str, **options: str) -> tuple[str, str]:
    """The variant and the model that answered."""
    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"[1]", ContentType="application/json", **options)
    return answer["InvokedProductionVariant"], json.loads(answer["Body"].read())["by"]


def test_weights_an_update_a_rollback_and_a_kill_lose_no_request(project):
    """13.2, 14.6, 20.3, 20.5. A killed container's own requests are its; the next ones are another instance's."""
    blue, green, slow = project.model("blue"), project.model("green"), project.model("slow", 0.5)
    url = project.create("digits", "--variant", f"blue={blue}:3", "--variant", f"green={green}:1", "--capture", "100")
    runtime, over, answers = client(url), threading.Event(), Counter()

    def send() -> None:
        while not over.is_set():
            try:
                answers[ask(runtime, "digits")] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, a request is lost
                answers["lost", str(error)] += 1

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        project.byoc("endpoint", "weights", "blue=1", "green=1")
        project.byoc(
            "endpoint",
            "update",
            "--variant",
            f"blue={green}",
            "--image",
            project.image,
            "--canary",
            "50%",
            "--bake",
            "1",
        )
        project.byoc(
            "endpoint", "alarm", "slow", "--latency", "450", "--statistic", "p50", "--over", "20", "--requests", "3"
        )
        worse = (
            "endpoint",
            "update",
            "--variant",
            f"blue={slow}",
            "--image",
            project.image,
            "--bake",
            "600",
            "--alarm",
            "slow",
        )
        project.byoc(*worse, code=1)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not {kind: count for kind, count in answers.items() if kind[0] == "lost"}
    assert {("blue", "blue"), ("green", "green"), ("blue", "green")} <= set(answers)
    described = runtime_description(project)
    assert "alarm slow" in described["FailureReason"]
    assert ask(runtime, "digits") == ("blue", "green")

    wait_until(lambda: len(project.containers("digits")) == 1, "the other fleets are gone", 300, interval=0.5)
    before = set(project.containers("digits"))
    docker("kill", *before)
    wait_until(lambda: set(project.containers("digits")) - before, "another container", 300, interval=0.5)
    wait_until(lambda: answers_again(runtime), "an answer", 300, interval=0.2)
    assert "ended with exit code 137" in (project.root / ".byoc/endpoints/digits/events.log").read_text()


def runtime_description(project: Project) -> dict[str, Any]:
    return call(project.workspace, "DescribeEndpoint", {"EndpointName": "digits"})


def answers_again(runtime: Any) -> bool:
    try:
        return ask(runtime, "digits") == ("blue", "green")
    except runtime.exceptions.ClientError:
        return False


def test_a_killed_runner_leaves_no_container_and_a_truthful_record(project):
    """20.5."""
    made = ("endpoint", "create", "digits", "--variant", f"blue={project.model('blue')}", "--image", project.image)
    project.byoc(*made, "--engine", "docker", "--detach")
    wait_until(lambda: project.containers("digits"), "a container", 300, interval=0.2)
    runner = project.workspace.store.get(Kind.ENDPOINT, "digits").runner
    assert runner is not None
    os.kill(runner.pid, signal.SIGKILL)
    wait_until(lambda: not runner.is_alive, "the runner's end", 300)
    assert "Failed" in project.byoc("endpoint", "describe")
    assert project.containers("digits") == []
    project.byoc("endpoint", "start", "--engine", "docker")
    assert ask(client(project.url("digits")), "digits") == ("blue", "blue")


def test_an_isolated_pipeline_shares_one_network_and_reaches_nothing(project):
    """13.10, 15.30, 15.32."""
    workspace = project.workspace
    for name in ("first", "second"):
        folder = project.model(name)
        archive = project.root / f"{name}.tar.gz"
        subprocess.run(["tar", "-czf", archive, "-C", folder, "."], check=True)
        workspace.buckets.put(f"s3://models/{name}.tar.gz", archive)
    containers = [
        {"Image": project.image, "ModelDataUrl": f"s3://models/{name}.tar.gz"} for name in ("first", "second")
    ]
    call(
        workspace,
        "CreateModel",
        {
            "ModelName": "line",
            "Containers": containers,
            "ExecutionRoleArn": ROLE_ARN,
            "EnableNetworkIsolation": True,
        },
    )
    url = project.create("pipeline", "--variant", "blue=line")
    answer = client(url).invoke_endpoint(EndpointName="pipeline", Body=b"[1]", ContentType="application/json")
    assert json.loads(answer["Body"].read()) == {"by": "second", "heard": {"by": "first", "heard": [1]}}
    one = project.containers("pipeline")[0]
    tried = subprocess.run(
        ["docker", "exec", one, "python", "-c", "import socket; socket.create_connection(('1.1.1.1', 53), 2)"],
        capture_output=True,
        check=False,
    )
    assert tried.returncode != 0

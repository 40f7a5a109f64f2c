"""The pytest plugin on Docker: one run of a pytest of its own that trains, serves, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_sagemaker.engines import DockerEngine
from local_sagemaker.state.workspace import SESSION_LABEL

from tests.support.places import HARNESS, RUNTIME

pytestmark = pytest.mark.docker
TEST = """
def test_trained_model_answers(byoc_image, byoc_training_job, byoc_endpoint):
    job = byoc_training_job()
    assert job.status == "Completed", job.failure_reason
    assert job.logs == "in a container\\n"
    assert job.model.joinpath("weights").stat().st_uid == __import__("os").getuid()
    endpoint = byoc_endpoint(job.model_data)
    reply = endpoint.invoke("ping?")
    assert (reply.status, reply.body) == (200, b"ping?")
    assert endpoint.ping() == 200
    endpoint.stop()
    assert endpoint.ping() is None
    byoc_endpoint(job.model_data)  # ended by the plugin
"""
TRAIN = """
from pathlib import Path
Path("/opt/ml/model/weights").write_text("1")
print("in a container" if Path("/.dockerenv").exists() else "not in a container")
"""
INFERENCE = """
def model_fn(model_dir):
    return 1


def transform_fn(model, body, content_type, accept):
    return body, content_type
"""


def test_a_job_and_an_endpoint_in_containers(image: str, tmp_path: Path) -> None:
    files = {"code/train.py": TRAIN, "code/inference.py": INFERENCE, "test_it.py": TEST}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    python_path = os.pathsep.join([str(RUNTIME.parent), str(HARNESS.parent)])
    options = ["-p", "local_sagemaker.pytest_plugin", "--byoc-engine", "docker", "--byoc-image", image]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, "--basetemp", str(tmp_path / "scratch"), "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": python_path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as inner:
        output = inner.communicate(timeout=900)[0]
    assert inner.returncode == 0, output
    sessions = [one.labels[SESSION_LABEL] for one in DockerEngine.connect().find({SESSION_LABEL: None})]
    assert not [session for session in sessions if session.startswith(f"pytest-{inner.pid}-")]

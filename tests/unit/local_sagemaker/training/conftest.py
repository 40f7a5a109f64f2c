"""A workspace, and training jobs with records that plain processes run."""

import sys
import textwrap
import threading

import pytest
from local_sagemaker.api.documents import merge
from local_sagemaker.api.operations import call
from local_sagemaker.api.validation import validate
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.state import runner
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training import attempts
from local_sagemaker.training.hosts import HostsWatch
from local_sagemaker.training.local_options import LocalOptions
from local_sagemaker.training.operations import create_training_job
from local_sagemaker.training.request import default_request

from tests.support.waiting import wait_until


@pytest.fixture
def workspace(tmp_path):
    root = tmp_path / "project"
    root.mkdir(exist_ok=True)
    return Workspace(root)


@pytest.fixture
def make_request(workspace):
    """A valid CreateTrainingJob request, with parts of it replaced."""

    def make(name="job", **over):
        algorithm = {"AlgorithmSpecification": {"TrainingImage": "image:tag"}}
        resources = {"ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large"}}
        return merge(default_request(workspace, name), merge(algorithm | resources, over))

    return make


@pytest.fixture
def create(workspace, make_request):
    """A job with a record whose container is a Python program of the test's, an entrypoint of its own."""

    def create(program, options=None, without=(), **over):
        path = workspace.root / "program.py"
        path.write_text(textwrap.dedent(program))
        request = {key: value for key, value in make_request(**over).items() if key not in without}
        request["AlgorithmSpecification"]["ContainerEntrypoint"] = [sys.executable, str(path)]
        validate("CreateTrainingJob", request)
        create_training_job(workspace, request, options or LocalOptions())
        return request["TrainingJobName"]

    return create


@pytest.fixture
def describe(workspace):
    return lambda name="job": call(workspace, "DescribeTrainingJob", {"TrainingJobName": name})


@pytest.fixture
def run(workspace, describe):
    """Run a job to its end, and its description then."""

    def run(name):
        runner.run(workspace, ProcessEngine(), Kind.TRAINING_JOB, name)
        return describe(name)

    return run


@pytest.fixture
def running(workspace):
    """A job that runs in a thread; the test ends when it has."""
    threads = []

    def start(name):
        arguments = (workspace, ProcessEngine(), Kind.TRAINING_JOB, name)
        thread = threading.Thread(target=runner.run, args=arguments)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


@pytest.fixture
def ready_first(monkeypatch):
    """The clocks of each attempt of a job begin once its program has written `ready`, or has ended: on a busy machine
    it may take longer to come so far than a test wants to wait.
    """

    def until(log_file):
        begun = []

        class Watch(HostsWatch):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                begun.append(self)
                said = lambda: log_file.exists() and log_file.read_bytes().count(b"ready") >= len(begun)  # noqa: E731
                wait_until(lambda: said() or not self._codes.empty(), "the program to be ready")

        monkeypatch.setattr(attempts, "HostsWatch", Watch)

    return until

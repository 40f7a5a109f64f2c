"""What a killed process leaves behind is put right by the next one."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from local_sagemaker.errors import EngineMissingError
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind, Runner
from local_sagemaker.state.runner import run as run_record
from local_sagemaker.state.runner import runner_log
from local_sagemaker.state.workspace import NAME_LABEL, Workspace

GONE = Runner(os.getpid(), "ended long ago")
RUNNING = {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}


@dataclass
class RecordingEngine:
    """Remembers whose containers were to be removed, and whose files to be given back."""

    removed: list = field(default_factory=list)
    given_back: list = field(default_factory=list)

    def remove_all(self, labels):
        self.removed.append(labels[NAME_LABEL])
        return 1

    def give_back(self, directory, image, labels=None):
        self.given_back.append((directory, image))


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def make(workspace, kind, name, description, runner=GONE, request=None):
    workspace.store.create(kind, name, request or {}, description)
    return workspace.store.assign(kind, name, runner)


def test_a_project_without_records_stays_without_files(workspace):
    assert reconcile(workspace) == []
    assert not workspace.directory.exists()


def test_a_job_whose_process_is_gone_has_failed_and_says_why(workspace):
    """1.10, 1.17."""
    opened = {"Status": "Training", "StartTime": 1.0}
    make(workspace, Kind.TRAINING_JOB, "one", {**RUNNING, "SecondaryStatusTransitions": [opened]})
    engine = RecordingEngine()
    (record,) = reconcile(workspace, [engine])
    assert (record.status, record.description["SecondaryStatus"], record.runner) == ("Failed", "Failed", None)
    assert record.description["FailureReason"].startswith("InternalServerError: the process that ran it")
    first, last = record.description["SecondaryStatusTransitions"]
    assert first["EndTime"] == last["StartTime"] == record.description["TrainingEndTime"]
    assert engine.removed == ["one"]


def test_what_runs_is_left_alone(workspace):
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING, Runner.here())
    engine = RecordingEngine()
    assert reconcile(workspace, [engine]) == []
    assert engine.removed == []


def test_a_job_that_was_told_to_stop_has_stopped(workspace):
    """1.14."""
    make(workspace, Kind.TRAINING_JOB, "one", {**RUNNING, "TrainingJobStatus": "Stopping"})
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.status == "Stopped"
    assert "FailureReason" not in record.description


def test_a_job_that_had_ended_keeps_its_end_and_loses_its_containers(workspace):
    make(workspace, Kind.TRAINING_JOB, "one", {"TrainingJobStatus": "Completed"})
    engine = RecordingEngine()
    (record,) = reconcile(workspace, [engine])
    assert (record.status, engine.removed) == ("Completed", ["one"])
    assert reconcile(workspace, [engine]) == []


def test_an_endpoint_whose_router_is_gone_has_failed(workspace):
    make(workspace, Kind.ENDPOINT, "one", {"EndpointStatus": "InService"})
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.status == "Failed"


def test_an_endpoint_that_was_being_deleted_is_deleted(workspace):
    make(workspace, Kind.ENDPOINT, "one", {"EndpointStatus": "Deleting"})
    reconcile(workspace, [RecordingEngine()])
    assert workspace.store.find() == []


def test_files_that_root_wrote_are_given_back(workspace):
    request = {"AlgorithmSpecification": {"TrainingImage": "mine:latest"}}
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING, request=request)
    engine = RecordingEngine()
    reconcile(workspace, [engine])
    assert engine.given_back == [(workspace.directory / "jobs" / "one", "mine:latest")]


def test_a_transform_jobs_files_are_given_back_by_its_models_image(workspace):
    workspace.store.create(Kind.MODEL, "digits", {"PrimaryContainer": {"Image": "mine:latest"}}, {})
    request = {"ModelName": "digits"}
    make(workspace, Kind.TRANSFORM_JOB, "one", {"TransformJobStatus": "InProgress"}, request=request)
    engine = RecordingEngine()
    reconcile(workspace, [engine])
    assert engine.given_back == [(workspace.directory / "transform" / "one", "mine:latest")]


def test_an_image_that_is_gone_keeps_no_verb_from_its_work(workspace):
    class EngineWithoutImages(RecordingEngine):
        def give_back(self, directory, image, labels=None):
            raise EngineMissingError(f"there is no image {image}")

    request = {"AlgorithmSpecification": {"TrainingImage": "gone:latest"}}
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING, request=request)
    (record,) = reconcile(workspace, [EngineWithoutImages()])
    assert record.status == "Failed"


RUN = """
import sys
from pathlib import Path
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.state import runner
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

def act(workspace, engine, record, output, report):
    {body}

sys.modules["acting"] = sys.modules["__main__"]
runner.RUNS[Kind.TRAINING_JOB] = "acting:act"
runner.run(Workspace(Path(sys.argv[1])), ProcessEngine(), Kind.TRAINING_JOB, "one")
"""


def run(workspace, body, **options):
    workspace.store.create(Kind.TRAINING_JOB, "one", {}, RUNNING)
    command = [sys.executable, "-c", RUN.format(body=body), str(workspace.root)]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=300, **options)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("raise ValueError('a bug')", "Failed", "InternalServerError: ValueError: a bug"),
        (
            "from local_sagemaker.errors import UsageError; raise UsageError('no such folder')",
            "Failed",
            "ClientError: no such folder",
        ),
        ("raise KeyboardInterrupt", "Stopped", None),
    ],
)
def test_however_a_run_ends_its_record_says_so(workspace, body, status, reason):
    """1.10, 1.14."""
    run(workspace, body)
    record = workspace.store.get(Kind.TRAINING_JOB, "one")
    assert (record.status, record.description.get("FailureReason")) == (status, reason)
    assert record.runner is None


def test_what_is_deleted_while_it_ends_has_ended(workspace, monkeypatch):
    def act(workspace, engine, record, output, report):
        workspace.store.delete(record.kind, record.name)

    monkeypatch.setattr("local_sagemaker.state.runner._function", lambda kind: act)
    make(workspace, Kind.ENDPOINT, "one", {"EndpointStatus": "Deleting"})
    assert run_record(workspace, RecordingEngine(), Kind.ENDPOINT, "one").name == "one"


def test_a_job_whose_process_could_not_write_down_its_end_has_failed_for_what_it_said(workspace):
    """1.10."""
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING)
    log = runner_log(workspace, Kind.TRAINING_JOB, "one")
    log.parent.mkdir()
    log.write_text("byoc: training job one\nerror: the database is full\n  make room\n")
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.description["FailureReason"].endswith("it said: the database is full make room")


def test_a_run_that_is_killed_is_put_right_by_the_next_verb(workspace):
    ran = run(workspace, "import os; os.kill(os.getpid(), 9)")
    assert ran.returncode == -9
    assert workspace.store.get(Kind.TRAINING_JOB, "one").status == "InProgress"
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.status == "Failed"


def test_what_another_process_has_started_again_meanwhile_is_left_alone(workspace, monkeypatch):
    make(workspace, Kind.ENDPOINT, "one", {"EndpointStatus": "InService"})
    read = workspace.store.find()
    workspace.store.claim(Kind.ENDPOINT, "one")
    monkeypatch.setattr(workspace.store, "find", lambda: read)
    engine = RecordingEngine()
    assert (reconcile(workspace, [engine]), engine.removed) == ([], [])


def test_a_job_that_nobody_runs_although_it_has_not_ended_has_failed(workspace):
    """1.10."""
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING, runner=None)
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.status == "Failed"


def test_a_runner_that_comes_after_its_job_was_put_right_does_not_run_it(workspace, monkeypatch):
    make(workspace, Kind.TRAINING_JOB, "one", RUNNING)
    reconcile(workspace, [RecordingEngine()])
    monkeypatch.setattr("local_sagemaker.state.runner.RUNS", {})
    ended = run_record(workspace, RecordingEngine(), Kind.TRAINING_JOB, "one")
    assert (ended.status, ended.runner) == ("Failed", None)


def test_a_process_that_is_only_halted_is_alive(workspace):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        try:
            make(workspace, Kind.TRAINING_JOB, "one", RUNNING, runner=Runner.of(process.pid))
            process.send_signal(signal.SIGSTOP)
            assert reconcile(workspace, [RecordingEngine()]) == []
        finally:
            process.kill()
    (record,) = reconcile(workspace, [RecordingEngine()])
    assert record.status == "Failed"

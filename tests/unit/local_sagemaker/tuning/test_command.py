"""``byoc tune`` as a process, with real training jobs on the process engine."""

import json
import os
import signal
import subprocess
import sys

import pytest
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.tuning.standing import training_jobs

from tests.support.waiting import wait_until

PRINTS_ITS_OBJECTIVE = """
    import argparse, os, pathlib
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.add_argument("--act")
    given, _ = parser.parse_known_args()
    loss = abs(given.lr - 0.1) + (given.act == "tanh")
    for epoch in range(3):
        print(f"epoch={epoch}; loss={loss + 0.1 / (epoch + 1)};", flush=True)
    pathlib.Path(os.environ["SM_MODEL_DIR"], "weights").write_text(str(loss))
"""
WAITS_FOR_SIGTERM = """
    import os, pathlib, signal, sys, threading
    def save(*_):
        pathlib.Path(os.environ["SM_MODEL_DIR"], "saved").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print("loss=0.5;", flush=True)
    threading.Event().wait()
"""
TUNE = ("--engine", "process", "--objective", "loss", "--job-name", "tune")


def command(*arguments):
    return [sys.executable, "-m", "local_sagemaker", "tune", *map(str, arguments)]


def byoc_tune(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, timeout=300, check=False)


@pytest.fixture
def running(make_project):
    """A tuning job with two training jobs that wait, its process, and its workspace."""
    root = make_project(train=WAITS_FOR_SIGTERM)
    workspace = Workspace(root)
    arguments = (root, *TUNE, "--strategy", "Random", "--range", "lr=0..1", "--parallel", 2)
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_until(
                lambda: workspace.database.exists() and reporting(workspace) == 2,
                "both training jobs report",
                120,
                lambda: None if process.poll() is None else f"byoc ended with {process.returncode}",
            )
            yield process, workspace
        finally:
            process.kill()
            process.wait()
            reconcile(workspace, [ProcessEngine()])


def reporting(workspace):
    jobs = training_jobs(workspace, "tune")
    return sum(bool(workspace.store.metrics(Kind.TRAINING_JOB, job.name, "loss")) for job in jobs)


def test_a_search_from_the_command_line_ends_with_its_best_job(make_project):
    """24.1 to 24.7, 8.1 to 8.3."""
    root = make_project(train=PRINTS_ITS_OBJECTIVE)
    ranges = ("--range", "lr=0.01..1:log", "--range", "act=relu,tanh", "--static", "epochs=3")
    ran = byoc_tune(
        root, *TUNE, *ranges, "--strategy", "Random", "--max-jobs", 3, "--parallel", 2, "--seed", 1, "--json"
    )
    assert ran.returncode == 0, ran.stderr.decode()
    document = json.loads(ran.stdout)
    assert document["HyperParameterTuningJobStatus"] == "Completed"
    best = document["BestTrainingJob"]
    assert document["TrainingJobSummaries"][0] == best
    tuned = best["TunedHyperParameters"]
    expected = abs(float(tuned["lr"]) - 0.1) + (tuned["act"] == "tanh") + 0.1 / 3
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == pytest.approx(expected)
    assert (root / ".byoc/jobs" / best["TrainingJobName"] / "model.tar.gz").is_file()
    assert f"--variant best={best['TrainingJobName']}".encode() in ran.stderr
    written = json.loads(
        (root / ".byoc/jobs" / best["TrainingJobName"] / "input/config/hyperparameters.json").read_text()
    )
    assert written == {"epochs": "3", "_tuning_objective_metric": "loss", **tuned}


def test_a_dry_run_prints_the_request_and_starts_nothing(make_project):
    root = make_project(train="")
    ran = byoc_tune(root, *TUNE, "--range", "lr=0.1..1", "--dry-run", "--json")
    assert json.loads(ran.stdout)["request"]["HyperParameterTuningJobName"] == "tune"
    assert not (root / ".byoc").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--range", "lr=0.1..1"), b"no --objective"),
        (("--objective", "loss"), b"nothing to search"),
        (("--objective", "loss", "--range", "lr=2..1"), b"is greater than its MaxValue"),
        (("--objective", "loss", "--range", "lr=1..2", "--warm-start", "absent"), b"absent of WarmStartConfig"),
    ],
)
def test_a_users_mistake_is_a_message_with_exit_code_2(make_project, arguments, message):
    ran = byoc_tune(make_project(train=""), "--engine", "process", *arguments)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_ctrl_c_stops_the_training_jobs_as_the_platform_does(running):
    """8.4, 24.7."""
    process, workspace = running
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert workspace.store.get(Kind.TUNING_JOB, "tune").status == "Stopped"
    jobs = training_jobs(workspace, "tune")
    assert [job.status for job in jobs] == ["Stopped", "Stopped"]
    for job in jobs:
        assert (workspace.directory_of(Kind.TRAINING_JOB, job.name) / "model/saved").exists()


def test_after_kill_9_nothing_runs_and_every_record_tells_the_truth(running):
    """24.7."""
    process, workspace = running
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    engine = ProcessEngine()
    labels = [workspace.labels(Kind.TRAINING_JOB, job.name) for job in training_jobs(workspace, "tune")]
    reconcile(workspace, [engine])
    assert workspace.store.get(Kind.TUNING_JOB, "tune").status == "Failed"
    assert [job.status for job in training_jobs(workspace, "tune")] == ["Failed", "Failed"]
    assert [engine.find(one) for one in labels] == [[], []]

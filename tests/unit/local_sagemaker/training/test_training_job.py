"""Whole training jobs with the process engine and the real runtime."""

import io
import json
import os
import signal
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.engines.process_tree import ProcessEntry, belonging_to
from local_sagemaker.errors import EngineMissingError, UsageError
from local_sagemaker.model_choice import newest_model
from local_sagemaker.project import read_project
from local_sagemaker.training.job import (
    failure_reason,
    plan_container,
    plan_training_job,
    run_training_job,
)

from tests.support.waiting import wait_until

SAVES_ON_SIGTERM = """
    import os, pathlib, signal, sys, threading
    model = pathlib.Path(os.environ["SM_MODEL_DIR"])
    def save(*_):
        (model / "saved").touch()
        sys.exit(0)
    signal.signal(signal.SIGTERM, save)
    print("ready", flush=True)
    threading.Event().wait()
"""


def plan(root, now, **options):
    return plan_training_job(read_project(root), {}, now, name="job", **options)


class WatchedLog(io.BytesIO):
    """A stream that calls ``then`` once a word has come through it."""

    def __init__(self, word, then):
        super().__init__()
        self.word, self.then = word, then

    def write(self, chunk):
        written = super().write(chunk)
        if self.then and self.word in self.getvalue():
            then, self.then = self.then, None
            then()
        return written


def test_a_job_that_ends_well_is_completed_and_collected(make_project, now):
    root = make_project(
        train="""
        import os, pathlib
        pathlib.Path(os.environ["SM_MODEL_DIR"], "weights").write_text("w")
        pathlib.Path(os.environ["SM_OUTPUT_DATA_DIR"], "history.json").write_text("[]")
    """
    )
    result = run_training_job(plan(root, now), ProcessEngine())
    assert (result.status, result.secondary_status, result.failure_reason) == ("Completed", "Completed", None)
    with tarfile.open(result.model_data) as model, tarfile.open(result.output_data) as output:
        assert model.getnames() == ["weights"]
        assert output.getnames() == ["history.json"]
    assert json.loads((result.directory / "job.json").read_text()) == result.document()
    assert newest_model(root) == result.model_data


def test_a_link_that_leads_out_of_the_model_is_doubted(make_project, now):
    """6.1, 6.9: its target is not in the archive that hosting unpacks."""
    root = make_project(
        train="""
        import os, pathlib
        model = pathlib.Path(os.environ["SM_MODEL_DIR"])
        (model / "best").symlink_to("epoch-2")
        (model / "last").symlink_to("/opt/ml/model/epoch-2")
        (model / "base").symlink_to("../base")
        (model / "vocabulary").symlink_to("/usr/share/dict/words")
    """
    )
    result = run_training_job(plan(root, now), ProcessEngine())
    assert [warning.split(", ")[0] for warning in result.warnings] == [
        "/opt/ml/model: 'base' is a link to '../base'",
        "/opt/ml/model: 'vocabulary' is a link to '/usr/share/dict/words'",
    ]


def test_output_passes_byte_for_byte(make_project, now):
    root = make_project(
        train=r"""
        import sys
        sys.stdout.buffer.write(b"\xff\x00\r\x1b[31m no newline")
    """
    )
    log = io.BytesIO()
    result = run_training_job(plan(root, now), ProcessEngine(), log)
    assert b"\xff\x00\r\x1b[31m no newline" in log.getvalue()
    assert (result.directory / "logs.txt").read_bytes() == log.getvalue()


def test_a_failed_job_says_why_in_the_platforms_words(make_project, now):
    """1.7, 1.10, 1.15: a failed job leaves no model to serve."""
    root = make_project(train='raise RuntimeError("no such column: age")')
    result = run_training_job(plan(root, now), ProcessEngine())
    assert (result.status, result.exit_code, result.model_data) == ("Failed", 1, None)
    assert result.failure_reason.startswith("AlgorithmError: ")
    assert "no such column: age" in result.failure_reason


def test_a_failure_without_a_text_gives_the_exit_code(tmp_path):
    """Contract 1.10."""
    assert failure_reason(tmp_path / "failure", 3) == "AlgorithmError: Exit Code: 3"


def test_only_the_first_1024_characters_of_a_failure_count(tmp_path):
    """Contract 1.9."""
    (tmp_path / "failure").write_text("ä" * 2000, encoding="utf-8")
    assert failure_reason(tmp_path / "failure", 1) == "AlgorithmError: " + "ä" * 1024


def test_a_failure_that_is_no_text_is_told_as_far_as_it_is_one(tmp_path):
    """1.9: a file of a gigabyte is read no further than it counts."""
    with (tmp_path / "failure").open("wb") as file:
        file.write(b"no \xff column")
        file.truncate(1 << 30)
    assert failure_reason(tmp_path / "failure", 1).startswith("AlgorithmError: no \ufffd column")


def test_a_failure_that_is_no_file_of_the_containers_gives_the_exit_code(tmp_path):
    """1.10: a pipe would be waited for, a link would show this machine's files."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_text("of this machine")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder"):
        assert failure_reason(tmp_path / name, 3) == "AlgorithmError: Exit Code: 3"


def test_a_job_over_its_limit_is_stopped_and_its_model_kept(make_project, now, ready_first):
    """Contract 1.12, 1.13 and 1.18."""
    job = replace(plan(make_project(train=SAVES_ON_SIGTERM), now), max_runtime_seconds=0.1)
    ready_first(job.log_file)
    result = run_training_job(job, ProcessEngine())
    assert (result.status, result.secondary_status) == ("Stopped", "MaxRuntimeExceeded")
    with tarfile.open(result.model_data) as model:
        assert model.getnames() == ["saved"]


def test_an_interrupted_job_is_stopped_and_collected(make_project, now):
    """Ctrl-C is StopTrainingJob."""
    job = plan(make_project(train=SAVES_ON_SIGTERM), now)
    main_thread = threading.main_thread().ident
    log = WatchedLog(b"ready", lambda: signal.pthread_kill(main_thread, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        run_training_job(job, ProcessEngine(), log)
    document = json.loads((job.directory / "job.json").read_text())
    assert (document["status"], document["secondary_status"]) == ("Stopped", "Stopped")
    assert (job.directory / "model" / "saved").exists()


def test_a_job_that_ignores_sigterm_is_killed_with_all_it_started(make_project, now, ready_first):
    root = make_project(
        train="""
        import os, signal, subprocess, sys, threading
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
        print(f"child={child.pid}; ready", flush=True)
        threading.Event().wait()
    """
    )
    job = replace(plan(root, now), max_runtime_seconds=0.1, stop_grace_seconds=0.5)
    ready_first(job.log_file)
    log = io.BytesIO()
    result = run_training_job(job, ProcessEngine(), log)
    assert (result.status, result.exit_code) == ("Stopped", 137)
    child = int(log.getvalue().split(b"child=")[1].split(b";")[0])
    wait_until(lambda: not is_running(child), "its child to be gone")


def is_running(pid):
    try:
        with Path(f"/proc/{pid}/stat").open() as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_channels_and_hyperparameters_reach_the_script(make_project, now):
    root = make_project(
        train="""
        import os, pathlib, sys
        print(sorted(sys.argv[1:]), pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "data.csv").read_text())
    """
    )
    (root / "input" / "data" / "train").mkdir(parents=True)
    (root / "input" / "data" / "train" / "data.csv").write_text("1,2,3")
    job = replace(plan(root, now), hyperparameters={"epochs": "2"})
    log = io.BytesIO()
    assert run_training_job(job, ProcessEngine(), log).status == "Completed"
    assert b"['--epochs', '2'] 1,2,3" in log.getvalue()


def test_the_users_environment_reaches_the_script_and_the_callers_sagemaker_settings_do_not(
    make_project, now, monkeypatch
):
    monkeypatch.setenv("SAGEMAKER_PROGRAM", "of_another_job.py")
    root = make_project(train='import os; print(os.environ["MINE"], os.environ["TRAINING_JOB_NAME"])')
    log = io.BytesIO()
    run_training_job(plan(root, now, environment={"MINE": "yes"}), ProcessEngine(), log)
    assert b"yes job\n" in log.getvalue()


def test_the_code_that_ran_is_kept_with_the_job(make_project, now):
    root = make_project(train="print(1)")
    result = run_training_job(plan(root, now), ProcessEngine())
    (root / "code" / "train.py").write_text("print(2)")
    assert (result.directory / "code" / "train.py").read_text() == "print(1)"


def test_a_job_name_is_used_once(make_project, now):
    root = make_project(train="")
    plan(root, now).directory.mkdir(parents=True)
    with pytest.raises(UsageError, match="there is a job job already"):
        plan(root, now)


def test_a_job_that_cannot_start_leaves_its_name_free(make_project, now):
    class Broken(ProcessEngine):
        def start(self, plan):
            raise EngineMissingError("there is no image")

    job = plan(make_project(train=""), now)
    with pytest.raises(EngineMissingError):
        run_training_job(job, Broken())
    assert not job.directory.exists()


def test_the_plan_mounts_each_folder_and_never_all_of_opt_ml(make_project, now):
    root = make_project(train="")
    (root / "input" / "data" / "train").mkdir(parents=True)
    mounts = {mount.target: mount.read_only for mount in plan_container(plan(root, now), "algo-1").mounts}
    assert mounts == {
        "/opt/ml/input": False,
        "/opt/ml/input/data/train": False,
        "/opt/ml/model": False,
        "/opt/ml/output": False,
        "/opt/ml/checkpoints": False,
        "/opt/ml/code": False,
    }


def test_a_channel_may_be_written_to_and_the_users_folder_stays_as_it_is(make_project, now):
    """3.3: on the platform a channel in File mode is a copy; here what changes is laid over the folder."""
    root = make_project(train="")
    (root / "input" / "data" / "train").mkdir(parents=True)
    job = plan(root, now)
    mounts = {mount.target: mount for mount in plan_container(job, "algo-1").mounts}
    channel = mounts["/opt/ml/input/data/train"]
    assert (channel.source, channel.changes) == (root / "input" / "data" / "train", job.directory / "changes" / "train")


def test_planning_touches_nothing(make_project, now):
    root = make_project(train="")
    plan_container(plan(root, now), "algo-1")
    assert [path.name for path in root.iterdir()] == ["code"]


def test_a_process_that_left_the_session_still_belongs_to_its_ancestor():
    table = [
        ProcessEntry(10, 1, 10),
        ProcessEntry(11, 10, 10),
        ProcessEntry(12, 11, 12),  # made a session of its own
        ProcessEntry(13, 1, 10),  # lost its parent
        ProcessEntry(20, 1, 20),
    ]
    assert belonging_to(10, table) == (11, 12, 13)

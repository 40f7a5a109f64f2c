"""The pytest plugin, in a pytest of its own: what it costs, what it starts, and what it leaves when it is killed."""

import os
import subprocess
import sys
import textwrap

import pytest
from local_sagemaker.engines import ContainerPlan, ProcessEngine
from local_sagemaker.state.workspace import SESSION_LABEL
from local_sagemaker.testing import clean_engine, remove_leftovers, session_name

from tests.support.places import HARNESS, RUNTIME
from tests.support.waiting import wait_until

ENGINE = ProcessEngine()


@pytest.fixture
def outer(tmp_path):
    """A pytest on a project of its own, with the plugin and the process engine."""
    (tmp_path / "project/code").mkdir(parents=True)
    environment = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(RUNTIME.parent), str(HARNESS.parent)]),
    }

    def start(test, *options, code="", **arguments):
        (tmp_path / "project/test_it.py").write_text(textwrap.dedent(test))
        (tmp_path / "project/code/train.py").write_text(textwrap.dedent(code))
        plugin = ["-p", "local_sagemaker.pytest_plugin", "-p", "no:cacheprovider", "--byoc-engine", "process"]
        command = [sys.executable, "-m", "pytest", *plugin, "--basetemp", str(tmp_path / "scratch"), *options]
        return subprocess.Popen(
            [*command, "test_it.py"],
            cwd=tmp_path / "project",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **arguments,
        )

    return start


def finish(process):
    output = process.communicate(timeout=300)[0].decode()
    return process.returncode, output


def test_a_test_run_that_uses_no_fixture_imports_nothing_for_it(outer):
    code, output = finish(
        outer("""
            import sys

            def test_imports():
                heavy = {"docker", "click", "httpx", "rich", "botocore", "sqlite3", "local_sagemaker.testing"}
                assert not heavy & set(sys.modules)
                assert "local_sagemaker.pytest_plugin" in sys.modules
        """)
    )
    assert code == 0, output


def test_help_lists_the_options(outer):
    output = finish(outer("", "--help"))[1]
    for option in ("--byoc-image=TAG", "--byoc-engine={auto,docker,process}", "--byoc-project=DIR"):
        assert option in output


def test_without_docker_the_reason_is_told_without_a_traceback(outer):
    code, output = finish(
        outer(
            """
            import os

            os.environ["DOCKER_HOST"] = "unix:///nowhere"

            def test_it(byoc_image):
                pass
            """,
            "--byoc-engine",
            "docker",
        )
    )
    assert code == 1, output
    assert "no Docker engine answers" in output
    assert "engines/docker.py" not in output


def test_a_request_document_takes_the_place_of_the_project(outer):
    code, output = finish(
        outer(
            """
            REQUEST = {
                "TrainingJobName": "asked-for",
                "RoleArn": "arn:aws:iam::000000000000:role/byoc",
                "AlgorithmSpecification": {
                    "TrainingImage": "image",
                    "TrainingInputMode": "File",
                    "ContainerEntrypoint": ["python3", "-c", "raise SystemExit('as told')"],
                },
                "OutputDataConfig": {"S3OutputPath": "s3://results/here"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 60},
            }

            def test_it(byoc_training_job):
                job = byoc_training_job(request=REQUEST)
                assert (job.name, job.status, job.exit_code) == ("asked-for", "Failed", 1)
                assert "as told" in job.logs
                assert job.description["ResourceConfig"]["InstanceType"] == "ml.m5.large"
            """
        )
    )
    assert code == 0, output


def test_channels_and_archives_of_a_job_are_folders(outer, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("1\n2\n")
    code, output = finish(
        outer(
            f"""
            def test_it(byoc_training_job):
                job = byoc_training_job(channels={{"train": {str(tmp_path / "data")!r}}}, environment={{"MINE": "yes"}})
                assert job.status == "Completed", job.failure_reason
                assert (job.model / "lines").read_text() == "2"
                assert (job.output / "mine").read_text() == "yes"
            """,
            code="""
                import os
                from pathlib import Path
                rows = Path(os.environ["SM_CHANNEL_TRAIN"], "a.csv").read_text().splitlines()
                Path(os.environ["SM_MODEL_DIR"], "lines").write_text(str(len(rows)))
                Path(os.environ["SM_OUTPUT_DATA_DIR"], "mine").write_text(os.environ["MINE"])
            """,
        )
    )
    assert code == 0, output


def test_what_a_killed_test_run_left_is_removed_by_the_next(outer):
    killed = outer(
        """
        def test_it(byoc_training_job):
            byoc_training_job()
        """,
        code="import time; time.sleep(600)",
    )

    def left():
        return [
            one for one in ENGINE.find({SESSION_LABEL: None}) if f"pytest-{killed.pid}-" in one.labels[SESSION_LABEL]
        ]

    wait_until(left, "the job to run", 60)
    remove_leftovers(ENGINE)
    assert left()  # it is not ours to remove: its pytest lives
    killed.kill()
    killed.communicate(timeout=300)
    assert left()
    code, output = finish(outer("def test_it(byoc_engine):\n    assert byoc_engine.name == 'process'\n"))
    assert code == 0, output
    wait_until(lambda: not left(), "the job to be gone")


def test_a_run_in_another_container_is_not_judged(tmp_path, monkeypatch):
    """It shares the engine and not the process numbers: that its number is free here says nothing."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        pid = ended.pid
    with monkeypatch.context() as patch:
        patch.setattr("local_sagemaker.testing.process_space", lambda: "elsewhere/pid:[1]")
        patch.setattr("os.getpid", lambda: pid)
        theirs = session_name()
    labels = {SESSION_LABEL: theirs}
    running = ENGINE.start(ContainerPlan(theirs, "train", "", tmp_path, {}, labels=labels, entrypoint=("sleep", "600")))
    try:
        assert remove_leftovers(ENGINE) == 0
        assert ENGINE.find(labels)
    finally:
        running.remove()


def test_what_is_left_at_the_end_is_removed_and_nothing_of_others(tmp_path):
    def start(session):
        labels = {SESSION_LABEL: session}
        return ENGINE.start(
            ContainerPlan(session, "train", "", tmp_path, {}, labels=labels, entrypoint=("sleep", "600"))
        )

    others = start("somebody-elses")
    try:
        with clean_engine("process") as engine:
            assert engine.name == "process"
            own = start(session_name())
        assert own.wait(120) == 137
        with pytest.raises(TimeoutError):
            others.wait(0.1)
    finally:
        others.remove()

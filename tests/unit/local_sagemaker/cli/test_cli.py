"""The command line, as a process: exit codes, streams, and no traceback for a user's mistake."""

import json
import signal
import subprocess
import sys

import pytest
from local_sagemaker.template import init_project


def byoc(*arguments, **options):
    command = [sys.executable, "-m", "local_sagemaker", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=300, check=False, **options)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "/absent/project"), 2, b"there is no directory /absent/project"),
        (("train", "--no-such-option"), 2, b"No such option"),
        (("endpoint", "nonsense"), 2, b"see `byoc endpoint --help`"),
        (("logs",), 2, b"see `byoc logs --help`"),
        (("train", ".", "--max-runtime", "nan"), 2, b"'nan' is not a finite number"),
        (("serve", ".", "--startup-timeout", "inf"), 2, b"'inf' is not a finite number"),
        (("check", "an-image", "--junit", "/dev/null/report.xml"), 2, b"nothing can be written in /dev/null"),
        (("endpoint", "alarm", "--remove"), 2, b"--remove without a name"),
        (("train", ".", "--hyperparameter", "epochs"), 2, b"expected KEY=VALUE"),
        (("train", ".", "--engine", "process", "--network", "none"), 2, b"cannot be isolated"),
        (("train", ".", "--engine", "process", "--hosts", "2"), 2, b"needs Docker"),
        (("train", ".", "--engine", "process", "--hosts", "2", "--dry-run"), 2, b"needs Docker"),
        (("train", ".", "--engine", "process", "--memory", "2g"), 2, b"--memory or --cpus with the process engine"),
        (("train", ".", "--hosts", "21"), 2, b"--hosts"),
        (("train", ".", "--shm-size", "big"), 2, b"--shm-size 'big' is no size"),
        (("train", ".", "--processes-per-host", "2"), 2, b"--distribution torchrun"),
        (("train", ".", "--instance-groups", "cpu"), 2, b"cannot be read"),
        (("invoke", "payload.xyz", "--content-type", "text/csv"), 2, b"payload.xyz cannot be read"),
        (("serve", ".", "--model-data", "absent.tar.gz"), 2, b"absent.tar.gz"),
    ],
)
def test_a_users_mistake_is_a_message_and_never_a_traceback(arguments, code, message, tmp_path):
    ran = byoc(*arguments, cwd=tmp_path)
    assert ran.returncode == code
    assert ran.stderr.rpartition(b"error: ")[1] == b"error: "
    assert message in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_with_json_standard_output_is_one_document_and_the_log_is_elsewhere(make_project):
    ran = byoc("train", make_project(train='print("hello from the job")'), "--engine", "process", "--json")
    assert json.loads(ran.stdout)["status"] == "Completed"
    assert b"hello from the job" in ran.stderr


def test_a_failed_job_exits_1_and_still_prints_its_document(make_project):
    ran = byoc("train", make_project(train="raise SystemExit(7)"), "--engine", "process", "--json")
    document = json.loads(ran.stdout)
    assert (ran.returncode, document["status"], document["exit_code"]) == (1, "Failed", 7)
    assert b"Traceback" not in ran.stderr


def test_a_dry_run_prints_the_command_and_leaves_no_files(make_project):
    root = make_project(train="")
    ran = byoc("train", root, "--engine", "process", "--dry-run")
    assert ran.returncode == 0
    assert b"SAGEMAKER_BASE_DIR=" in ran.stdout
    assert not (root / ".byoc").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("ps", "--all"),
        ("rm", "a-job", "--dry-run"),
        ("endpoint", "create", "one", "--variant", "blue=a-job", "--dry-run"),
        ("transform", "--engine", "process", "--model", "a-job", "--input", "code", "--dry-run"),
        ("tune", ".", "--objective", "loss", "--range", "lr=0.1..1", "--warm-start", "a-job", "--dry-run"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_only_looks_makes_nothing_in_a_project(make_project, arguments):
    root = make_project(train="")
    before = sorted(root.rglob("*"))
    ran = byoc(*arguments, cwd=root)
    assert b"Traceback" not in ran.stderr
    assert sorted(root.rglob("*")) == before


def test_a_distribution_reaches_the_job_as_hyperparameters_and_the_users_own_win(make_project):
    root = make_project(train="")
    arguments = ("--distribution", "mpi", "--hyperparameter", 'sagemaker_mpi_custom_mpi_options="-x FI=1"')
    ran = byoc("train", root, "--engine", "process", *arguments, "--dry-run", "--json")
    assert json.loads(ran.stdout)["job"]["hyperparameters"] == {
        "sagemaker_mpi_enabled": "true",
        "sagemaker_mpi_num_of_processes_per_host": "1",
        "sagemaker_mpi_custom_mpi_options": '"-x FI=1"',
    }


def test_checkpoints_of_one_job_are_the_next_ones(make_project, tmp_path):
    """7.2, 7.3: on one host and without Docker too."""
    root = make_project(
        train="""
        import os, pathlib
        folder = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints")
        print("found", *sorted(path.name for path in folder.iterdir()))
        (folder / f"{os.environ['TRAINING_JOB_NAME']}.pt").touch()
    """
    )
    store = tmp_path / "kept"
    for name in ("first", "second"):
        ran = byoc("train", root, "--engine", "process", "--checkpoints", store, "--job-name", name)
    assert ran.stdout == b"found first.pt\n"
    assert sorted(path.name for path in store.iterdir()) == ["first.pt", "second.pt"]


def test_a_project_without_code_is_told_whose_code_runs(tmp_path):
    ran = byoc("train", tmp_path, "--engine", "process", "--dry-run")
    assert f"{tmp_path} has no code folder, so the image's own code runs".encode() in ran.stderr


def test_serve_that_is_interrupted_before_it_serves_ends_as_interrupted(make_project, tmp_path):
    root = make_project(inference="import time\nprint('loading', flush=True)\ntime.sleep(600)")
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-m", "local_sagemaker", "serve", root, "--model-data", tmp_path / "model"]
    command += ["--engine", "process", "--port", "0"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as serving:
        for line in serving.stdout:
            if b"loading" in line:
                break
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 130
    assert list((root / ".byoc" / "endpoints").iterdir()) == []


def test_init_refuses_a_directory_with_files(tmp_path):
    (tmp_path / "mine.txt").touch()
    assert byoc("init", tmp_path).returncode == 2
    assert not (tmp_path / "code").exists()


def test_init_copies_the_template(tmp_path):
    init_project(tmp_path / "new")
    assert (tmp_path / "new" / "code" / "train.py").is_file()
    assert (tmp_path / "new" / "code" / "inference.py").is_file()


def test_doctor_names_what_to_do_about_every_lack():
    document = json.loads(byoc("doctor", "--json").stdout)
    assert all(check["ok"] or check["next_step"] for check in document["checks"])


def test_sigterm_ends_serve_cleanly_and_invoke_reaches_it_before(make_project, tmp_path):
    root = make_project(
        inference="""
        def model_fn(model_dir):
            return None
        def transform_fn(model, body, content_type, accept):
            if body in (b"[0]", "[0]"):
                raise ValueError("zero is not allowed")
            return body, content_type
    """
    )
    (tmp_path / "model").mkdir()
    command = [sys.executable, "-m", "local_sagemaker", "serve", root, "--model-data", tmp_path / "model"]
    command += ["--engine", "process", "--port", "0", "--json"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as serving:
        try:
            document = "".join(iter_document(serving.stdout))
            url = json.loads(document)["url"]
            good = byoc("invoke", "-", "--url", url, "--content-type", "application/json", input=b"[1, 2]")
            bad = byoc("invoke", "-", "--url", url, "--content-type", "application/json", input=b"[0]")
        finally:
            serving.send_signal(signal.SIGTERM)
        assert serving.wait(60) == 0
    assert (good.returncode, good.stdout) == (0, b"[1, 2]")
    assert (bad.returncode, bad.stdout) == (1, b"")
    assert b"status 500" in bad.stderr
    assert b"zero is not allowed" in bad.stderr
    assert list((root / ".byoc" / "endpoints").iterdir()) == []


def iter_document(stream):
    for line in stream:
        yield line.decode()
        if line == b"}\n":
            return

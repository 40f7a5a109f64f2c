"""ps, logs, stop, rm and completion: any resource of a project, by its name."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from local_sagemaker.cli import byoc
from local_sagemaker.cli.endpoint_common import wait_until_settled
from local_sagemaker.cli.ps import age
from local_sagemaker.engines import ContainerPlan, ProcessEngine
from local_sagemaker.errors import ResourceNotFoundError, UsageError, ValidationError
from local_sagemaker.hosting.alarms import Alarm, AlarmBook
from local_sagemaker.state.records import Kind, Runner, end
from local_sagemaker.state.workspace import NAME_LABEL, Workspace

from tests.support.processes import alive
from tests.support.waiting import wait_until

JOB, ENDPOINT, MODEL = Kind.TRAINING_JOB, Kind.ENDPOINT, Kind.MODEL


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workspace.of(tmp_path)


@pytest.fixture
def make(workspace):
    """A record with a directory of its own; it is run by this very process unless it has ended."""

    def make(name, kind=JOB, status="InProgress", **description):
        statuses = {kind.status_key: status} if kind.has_status else {}
        workspace.store.create(kind, name, {}, {**statuses, **description})
        workspace.directory_of(kind, name).mkdir(parents=True)
        if status in {"Completed", "Failed", "Stopped"}:
            workspace.store.release(kind, name)
        return workspace.directory_of(kind, name)

    return make


@pytest.fixture
def container(workspace):
    """A process that stands for a container of a resource."""
    made = []

    def start(name, kind=JOB):
        labels = workspace.labels(kind, name)
        plan = ContainerPlan(f"c-{name}", "train", "", workspace.root, {}, labels=labels, entrypoint=("sleep", "600"))
        made.append(ProcessEngine().start(plan))
        return made[-1]

    yield start
    for running in made:
        running.remove()


@pytest.fixture
def stranger():
    """A process that runs something else; the one that `rm --force` kills."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def run(*arguments):
    return CliRunner().invoke(byoc, arguments, catch_exceptions=False)


def document(*arguments):
    return json.loads(run(*arguments, "--json").stdout)


def names(*arguments):
    return [one["name"] for one in document("ps", *arguments)["resources"]]


def test_ps_lists_what_has_not_ended_and_with_all_what_has(make):
    make("done", status="Completed")
    make("now")
    make("model", MODEL)
    make("front", ENDPOINT, "InService")
    assert names() == ["front", "now"]
    assert names("--all") == ["front", "model", "now", "done"]


def test_ps_never_breaks_a_name(make, monkeypatch):
    """Also on a terminal of 40 columns, which breaks the line itself: a name that is copied from it is whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    make(name := "a" * 63)
    assert name in run("ps").stdout


def test_ps_shows_the_containers_of_each_resource(make, container):
    make("digits", SecondaryStatus="Training")
    make("digits", ENDPOINT, "InService")
    running = container("digits")
    endpoint, job = document("ps")["resources"]
    assert job["containers"] == [{"name": "c-digits", "engine": "process", "running": True, "port": None}]
    assert (job["kind"], job["status"], job["secondary_status"]) == ("TrainingJob", "InProgress", "Training")
    assert endpoint["containers"] == []
    table = run("ps").stdout
    assert "training job  digits  InProgress (Training)" in table
    assert "1 on process" in table
    running.remove()


def test_ps_tells_the_truth_about_what_a_killed_process_left(workspace, make, container, stranger):
    make("orphan")
    workspace.store.assign(JOB, "orphan", Runner.of(stranger.pid))
    running = container("orphan")
    assert names() == ["orphan"]
    stranger.kill()
    stranger.wait()
    (job,) = document("ps", "--all")["resources"]
    assert (job["status"], job["containers"]) == ("Failed", [])
    assert "was killed" in job["failure_reason"]
    assert running.wait(120) == 137


def test_ps_removes_a_container_that_came_after_its_tool_was_killed(workspace, make, container):
    make("over", status="Failed")
    make("now")
    late, alive, forgotten = container("over"), container("now"), container("nobody-knows-it")
    assert names() == ["now"]
    assert late.wait(120) == forgotten.wait(120) == 137
    with pytest.raises(TimeoutError):
        alive.wait(0.1)


def test_ps_removes_the_containers_of_a_project_whose_records_are_gone(workspace, container):
    left = container("nobody-knows-it")
    assert "nothing runs in" in run("ps").stdout
    assert left.wait(120) == 137
    assert not workspace.directory.exists()


def test_ps_of_a_project_where_nothing_was_done_makes_no_files(workspace):
    assert "nothing runs in" in run("ps").stdout
    assert not workspace.directory.exists()


def test_looking_for_endpoints_where_nothing_was_done_makes_no_files(workspace):
    assert document("endpoint", "ls") == {"Endpoints": []}
    (workspace.root / "rows.csv").write_text("1\n")
    asked = (("endpoint", "describe", "a"), ("endpoint", "delete", "a"), ("invoke", "rows.csv", "--endpoint", "a"))
    for words in asked:
        with pytest.raises(ValidationError, match='Could not find endpoint "a"'):
            run(*words)
    assert not workspace.directory.exists()


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0s"), (59, "59s"), (60, "1m"), (7300, "2h"), (200_000, "2d")])
def test_an_age_is_told_in_its_largest_unit(seconds, text):
    assert age(seconds) == text


def test_logs_come_from_files_also_when_all_is_over(make):
    (make("done", status="Failed") / "logs.txt").write_bytes(b"one\ntwo\n\xff\n")
    assert run("logs", "done").stdout_bytes == b"one\ntwo\n\xff\n"
    assert run("logs", "done", "--tail", "1").stdout_bytes == b"\xff\n"


def test_followed_logs_end_with_the_job(workspace, make):
    directory = make("now")
    log = directory / "logs.txt"
    log.write_text("first\n")
    shown = []
    follower = threading.Thread(target=lambda: shown.append(run("logs", "now", "-f").stdout))
    follower.start()
    with log.open("a") as file:
        file.write("second\n")
    workspace.store.change(JOB, "now", lambda description: end(JOB, description, "Completed", 1.0))
    workspace.store.release(JOB, "now")
    follower.join(60)
    assert shown == ["first\nsecond\n"]


def test_a_resource_that_never_had_a_container_shows_what_its_runner_said(workspace, make):
    make("early", status="Failed", FailureReason="ClientError: no image")
    with pytest.raises(UsageError, match=r"training job early has no log\n.*Failed: ClientError: no image"):
        run("logs", "early")
    (workspace.directory / "runners").mkdir()
    (workspace.directory / "runners" / "TrainingJob-early.log").write_text("error: no image\n")
    assert run("logs", "early").stdout == "error: no image\n"


def test_a_name_that_several_kinds_have_needs_its_kind(make):
    (make("digits", status="Completed") / "logs.txt").write_text("of the job\n")
    (make("digits", ENDPOINT, "InService") / "logs.txt").write_text("of the endpoint\n")
    make("digits", MODEL)
    with pytest.raises(UsageError, match=r"several resources: Endpoint, Model, TrainingJob"):
        run("logs", "digits")
    assert run("logs", "digits", "--kind", "trainingjob").stdout == "of the job\n"


def test_a_name_that_nobody_has_is_the_services_resource_not_found(make):
    make("digits")
    for verb in ("logs", "stop", "rm"):
        with pytest.raises(ResourceNotFoundError, match="digitz") as error:
            run(verb, "digitz")
        assert error.value.exit_code == 2


def test_a_detached_job_is_stopped_as_the_platform_stops_it(workspace, make_project, monkeypatch):
    """1.12-1.14: SIGTERM, what the job saves then is kept, and it is Stopped."""
    root = make_project(
        train="""
            import pathlib, signal, sys
            def save(*_):
                pathlib.Path(sys.argv[0]).stat()
                pathlib.Path(__import__("os").environ["SM_MODEL_DIR"], "saved").touch()
                sys.exit(0)
            signal.signal(signal.SIGTERM, save)
            print("ready", flush=True)
            while True:
                signal.pause()
        """
    )
    monkeypatch.chdir(root)
    assert run("train", ".", "--engine", "process", "--job-name", "long", "--detach").exit_code == 0
    directory = root / ".byoc/jobs/long"
    wait_until(lambda: (directory / "logs.txt").is_file() and "ready" in (directory / "logs.txt").read_text(), "a log")
    assert document("stop", "long") == {"kind": "TrainingJob", "name": "long", "status": "Stopped"}
    assert (directory / "model.tar.gz").is_file()
    assert document("stop", "long")["status"] == "Stopped"
    assert document("rm", "long") == {"removed": [{"kind": "TrainingJob", "name": "long"}]}
    assert not directory.exists()
    assert names("--all") == []
    assert (root / "code" / "train.py").is_file()


@pytest.mark.parametrize("verb", ["train", "process"])
def test_what_runs_is_ended_when_its_records_are_removed(workspace, verb):
    program = 'echo "$$" >pid; exec sleep 600'
    (workspace.root / "code").mkdir()
    (workspace.root / "code" / "train.py").write_text(f"import os; os.execvp('sh', ['sh', '-c', {program!r}])")
    asked = {"train": (".",), "process": ("--entrypoint", f"sh -c '{program}'")}[verb]
    said = run(verb, *asked, "--engine", "process", "--job-name", "long", "--detach")
    assert said.exit_code == 0, said.output
    wait_until(lambda: any(file.read_text().strip() for file in workspace.directory.rglob("pid")), "the program")
    (file,) = workspace.directory.rglob("pid")
    program_id, runner = int(file.read_text()), workspace.store.find(name="long")[0].runner
    assert alive(program_id)
    shutil.rmtree(workspace.directory)
    wait_until(lambda: not runner.is_alive and not alive(program_id), "the end of both")
    assert not workspace.directory.exists()


def test_what_a_killed_job_left_on_another_engine_is_removed_by_the_next_one(workspace, make, stranger, monkeypatch):
    removed = []

    class OtherEngine(ProcessEngine):
        def remove_all(self, labels):
            removed.append(labels[NAME_LABEL])
            return 1

    monkeypatch.setattr("local_sagemaker.state.reconcile.answering_engines", lambda: [ProcessEngine(), OtherEngine()])
    make("orphan")
    workspace.store.assign(JOB, "orphan", Runner(stranger.pid, "another"))
    (workspace.root / "code").mkdir()
    (workspace.root / "code" / "train.py").write_text("")
    assert run("train", ".", "--engine", "process").exit_code == 0
    assert removed == ["orphan"]


def test_stop_says_that_a_process_is_suspended(workspace, make, stranger):
    make("halted")
    workspace.store.assign(JOB, "halted", Runner.of(stranger.pid))
    stranger.send_signal(signal.SIGSTOP)
    words = [sys.executable, "-m", "local_sagemaker", "stop", "halted"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as tool:
        told = next((line for line in tool.stderr if "suspended" in line), "")
        stranger.kill()
        stranger.wait()
    assert f"it goes on with `kill -CONT {stranger.pid}`" in told
    assert workspace.store.get(JOB, "halted").status == "Stopped"


def test_an_endpoint_that_nobody_runs_is_gone_when_it_is_stopped(make, workspace):
    make("front", ENDPOINT, "Failed")
    assert document("stop", "front")["status"] == "Deleted"


def test_ctrl_c_while_an_endpoint_comes_says_that_it_goes_on(make, workspace, monkeypatch, capsys):
    make("front", ENDPOINT, "Creating")
    monkeypatch.setattr("local_sagemaker.cli.endpoint_common.reconcile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        wait_until_settled(workspace, "front")
    assert "front goes on in the background" in capsys.readouterr().err
    assert workspace.store.get(ENDPOINT, "front").status == "Creating"


def interrupt(_workspace):
    raise KeyboardInterrupt


def test_what_does_not_run_cannot_be_stopped(make):
    make("digits", MODEL)
    with pytest.raises(UsageError, match="is a model, which does not run"):
        run("stop", "digits")


def test_what_runs_is_not_removed_unless_by_force(workspace, make, container, stranger):
    directory = make("busy")
    workspace.store.assign(JOB, "busy", Runner.of(stranger.pid))
    running = container("busy")
    with pytest.raises(UsageError, match="training job busy is InProgress"):
        run("rm", "busy")
    assert directory.exists()
    assert stranger.poll() is None
    thread = threading.Thread(target=stranger.wait)  # whoever started it reaps it
    thread.start()
    assert document("rm", "busy", "--force")["removed"] == [{"kind": "TrainingJob", "name": "busy"}]
    thread.join(30)
    assert stranger.returncode == -9
    assert running.wait(120) == 137
    assert not directory.exists()


def test_rm_all_removes_what_does_not_run_and_never_a_users_own_folder(workspace, make, tmp_path_factory):
    own = tmp_path_factory.mktemp("own")
    (own / "data.csv").write_text("1\n")
    directory = make("done", status="Completed")
    (directory / "linked").symlink_to(own)
    workspace.buckets.link(f"s3://{workspace.default_bucket}/done/input/data/train", own)
    workspace.buckets.put_bytes(f"s3://{workspace.default_bucket}/done/output/model.tar.gz", b"kept")
    make("model", MODEL)
    make("now")
    removed = document("rm", "--all")["removed"]
    assert [one["name"] for one in removed] == ["model", "done"]
    assert names("--all") == ["now"]
    assert (own / "data.csv").read_text() == "1\n"
    kept = [item.key for item in workspace.buckets.objects(f"s3://{workspace.default_bucket}/")]
    assert kept == ["done/output/model.tar.gz"]


def test_a_dry_run_of_rm_says_what_would_go_and_leaves_it(make, stranger, workspace):
    directory = make("done", status="Completed")
    make("busy")
    workspace.store.assign(JOB, "busy", Runner.of(stranger.pid))
    assert document("rm", "--all", "--dry-run") == {"would_remove": [{"kind": "TrainingJob", "name": "done"}]}
    assert run("rm", "done", "--dry-run").stdout == "would remove training job done\n"
    assert directory.exists()
    assert names("--all") == ["busy", "done"]


def test_where_one_of_several_runs_none_is_removed(make, stranger, workspace):
    directory = make("done", status="Completed")
    make("busy")
    workspace.store.assign(JOB, "busy", Runner.of(stranger.pid))
    with pytest.raises(UsageError, match="training job busy is InProgress"):
        run("rm", "done", "busy")
    assert directory.exists()


@pytest.mark.parametrize("arguments", [(), ("digits", "--all")])
def test_rm_wants_names_or_all(workspace, arguments):
    with pytest.raises(UsageError, match="expected names of resources, or --all"):
        run("rm", *arguments)


def completions(cwd, *words):
    """What a shell would offer for the last word."""
    environment = {
        **os.environ,
        "_BYOC_COMPLETE": "bash_complete",
        "COMP_WORDS": shlex.join(["byoc", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = [sys.executable, "-c", "from local_sagemaker.cli import main; main()"]
    done = subprocess.run(program, env=environment, cwd=cwd, capture_output=True, check=False, timeout=300)
    return [line.partition(",")[2] for line in done.stdout.decode().splitlines() if line]


def test_a_shell_completes_verbs_options_and_the_names_of_resources(workspace, make, tmp_path_factory):
    make("digits-1")
    make("digits-2", status="Completed")
    make("other")
    assert {"serve", "stop", "shell"} <= set(completions(workspace.root, "s"))
    assert completions(workspace.root, "stop", "--no-") == ["--no-wait"]
    for verb in ("stop", "rm"):  # one argument, and any number of them
        assert completions(workspace.root, verb, "digits") == ["digits-2", "digits-1"]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert completions(elsewhere, "stop", "--project", str(workspace.root), "oth") == ["other"]
    assert completions(elsewhere, "stop", "dig") == []


def offered(*words):
    """What any shell would offer for the last word, asked for in this process."""
    shell = ShellComplete(byoc, {}, "byoc", "_BYOC_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_options_and_arguments_of_one_kind_are_completed_with_names_of_that_kind(workspace, make):
    make("a-job")
    make("a-front", ENDPOINT, "InService")
    make("a-model", MODEL)
    make("a-search", Kind.TUNING_JOB, "Completed")
    make("a-config", Kind.ENDPOINT_CONFIG)
    AlarmBook.of(workspace).put(Alarm("a-alarm", "error-rate", 0.1))
    assert offered("invoke", "--endpoint", "a") == ["a-front"]
    for verb in ("update", "start", "delete", "wait", "describe", "compare"):
        assert offered("endpoint", verb, "a") == ["a-front"]
    assert offered("transform", "--model", "a") == ["a-model", "a-job"]
    assert offered("tune", "--warm-start", "a") == ["a-search"]
    assert offered("endpoint", "update", "--config", "a") == ["a-config"]
    assert offered("endpoint", "update", "--alarm", "a") == ["a-alarm"]
    assert offered("stop", "--project", "/nowhere", "a") == []


def test_bash_completes_the_names_of_jobs_with_the_line_of_the_reference(workspace, make, tmp_path):
    make("digits-1")
    make("digits-2")
    make("other")
    program = tmp_path / "bin" / "byoc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m local_sagemaker "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(_BYOC_COMPLETE=bash_source byoc)"
        COMP_WORDS=(byoc stop dig) COMP_CWORD=2
        _byoc_completion byoc
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=workspace.root, capture_output=True, check=False, timeout=300
    )
    assert done.stdout == b"digits-2\ndigits-1\n"


def test_the_script_that_a_shell_needs_is_clicks_own():
    environment = {**os.environ, "_BYOC_COMPLETE": "bash_source"}
    program = [sys.executable, "-c", "from local_sagemaker.cli import main; main()"]
    done = subprocess.run(program, env=environment, capture_output=True, check=False, timeout=300)
    assert b"complete -o nosort -F _byoc_completion byoc" in done.stdout


def test_rm_makes_room_on_a_disk_that_is_too_full_to_note_what_was_killed(make, workspace, monkeypatch):
    folder = make("one")
    (folder / "model").write_bytes(b"\0" * 1000)
    workspace.store.assign(JOB, "one", Runner(os.getpid(), "ended long ago"))

    def full(*_):
        raise UsageError("database or disk is full")

    monkeypatch.setattr("local_sagemaker.state.store.Store.take_over", full)
    assert run("rm", "one").exit_code == 0
    assert not folder.exists()
    assert not workspace.store.find(JOB, "one")

"""Plain processes in place of containers: how they are started, found again, and ended with all that they started."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from local_sagemaker.engines import ContainerPlan, Limits, Mount, ProcessEngine, process_marks
from local_sagemaker.engines.process_marks import EXEC_SECONDS, find_trees, mark
from local_sagemaker.engines.process_temporary import make_temporary
from local_sagemaker.errors import EngineMissingError, UsageError

from tests.support.processes import alive
from tests.support.waiting import wait_until

ENGINE = ProcessEngine()
# Starts a child in a session of its own, tells both ids, and waits for ever; the child has forgotten its environment.
FAMILY = r"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={}, start_new_session=True)
os.write(1, f"{os.getpid()} {child.pid}\n".encode())
time.sleep(600)
"""


@pytest.fixture
def labels():
    """Of this test alone; whatever carries them is gone afterwards."""
    made = {"byoc.test": uuid.uuid4().hex, "byoc.kind": "TrainingJob"}
    yield made
    ENGINE.remove_all(made)


@pytest.fixture
def plan(tmp_path, labels):
    def make(*entrypoint, command="train", name="one", **options):
        options = {"entrypoint": entrypoint, "labels": labels, "environment": {}} | options
        return ContainerPlan(f"{name}-{labels['byoc.test']}", command, "image", tmp_path, **options)

    return make


def python(text):
    return "python3", "-c", textwrap.dedent(text)


def output_of(running):
    return b"".join(chunk.data for chunk in running.logs()).decode()


def pids(running):
    first = next(chunk for chunk in running.logs() if chunk.data)
    return [int(word) for word in first.data.split()]


def test_an_entrypoint_runs_with_its_arguments_and_this_python(plan):
    """1.2, 1.4."""
    running = ENGINE.start(plan(*python("import sys; print(sys.executable, sys.argv[1:])"), arguments=("a", "b c")))
    assert output_of(running).strip() == f"{sys.executable} ['a', 'b c']"
    assert running.wait(120) == 0


def test_paths_below_opt_ml_lead_to_the_folder_that_stands_for_it(plan, tmp_path):
    """10.1: a processing job's own program lies in one of its inputs."""
    code = tmp_path / "mine"
    code.mkdir()
    (code / "clean.py").write_text("import sys; print(sys.argv[1])")
    running = ENGINE.start(
        plan(
            *("python3", "/opt/ml/processing/input/code/clean.py"),
            command="process",
            arguments=("/opt/ml/processing/output",),
            mounts=(Mount(code, "/opt/ml/processing/input/code"),),
        )
    )
    assert output_of(running).strip() == str(tmp_path / "processing/output")


def test_an_entrypoint_that_this_machine_lacks_is_named(plan):
    with pytest.raises(UsageError, match=r"/opt/program/none cannot be executed: No such file"):
        ENGINE.start(plan("/opt/program/none"))


@pytest.mark.parametrize(
    "wanted", [{"read_only_root": True}, {"tmpfs": ("/tmp",)}, {"user": "1000"}, {"publish": (1,)}]
)
def test_what_only_a_container_has_is_refused(plan, wanted):
    with pytest.raises(UsageError, match="use --engine docker"):
        ENGINE.start(plan("true", **wanted))


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_a_job_that_asks_for_a_gpu_does_not_run_without_one(plan):
    with pytest.raises(EngineMissingError, match="shows 0 NVIDIA GPUs"):
        ENGINE.start(plan("true", limits=Limits(gpus="all")))


def test_processes_are_found_by_some_of_their_labels(plan, labels):
    running = ENGINE.start(plan("sleep", "600", command="serve", port=0))
    some = {"byoc.test": labels["byoc.test"], "byoc.kind": None}
    (found,) = ENGINE.find(some)
    assert (found.name, found.labels, found.running) == (running.name, labels, True)
    assert found.exit_code is None
    assert found.port == running.port
    assert running.address == ("127.0.0.1", running.port)
    assert ENGINE.find(some | {"byoc.kind": "Endpoint"}) == []
    running.remove()
    assert ENGINE.find(some) == []


# A row of the process table: id, flags, and where the environment begins and ends.
ROW = "{0} (a b) S 1 {0} {0} 0 -1 {1} " + " ".join(["0"] * 40) + " {2} {3} 0\n"


def write_process(table, pid, environment, flags=0x400000, ends=(140, 140)):
    folder = table / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "stat").write_text(ROW.format(pid, flags, *ends))
    (folder / "environ").write_text("".join(f"{key}={value}\0" for key, value in environment.items()))


def test_a_process_is_found_from_the_moment_it_is_started(labels, tmp_path, monkeypatch):
    """The system shows it before its environment is there: 4 in 100 were missed when they were looked for at once."""
    write_process(tmp_path, 11, {}, ends=(0, 0))

    def meanwhile(_seconds):
        write_process(tmp_path, 11, mark("one", labels), ends=(140, 390))

    monkeypatch.setattr(process_marks, "time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile))
    assert [tree.leader for tree in find_trees(labels, tmp_path)] == [11]


def test_a_process_without_an_environment_is_not_waited_for(tmp_path):
    """Nor are the system's own threads."""
    write_process(tmp_path, 11, {})
    write_process(tmp_path, 12, {}, flags=0x200040, ends=(0, 0))
    began = time.monotonic()
    assert find_trees({}, tmp_path) == []
    assert time.monotonic() - began < EXEC_SECONDS


def test_all_that_a_killed_tool_had_started_is_found_and_removed(plan, labels, tmp_path):
    """kill -9 of the tool orphans nothing: not even a child that left its session and forgot its environment."""
    tool = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            from pathlib import Path
            from local_sagemaker.engines import ContainerPlan, ProcessEngine
            for name in ("one", "two"):
                running = ProcessEngine().start(ContainerPlan(
                    name, "train", "image", Path({str(tmp_path)!r}), {{}}, labels={labels!r},
                    entrypoint=("python3", "-c", {FAMILY!r})))
                print(next(running.logs()).data.decode(), end="", flush=True)
            running.wait()
        """)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with tool:
        started = [int(word) for _ in range(2) for word in tool.stdout.readline().split()]
        tool.kill()
    assert len(started) == 4
    assert all(map(alive, started))
    assert [found.name for found in ENGINE.find(labels)] == ["one", "two"]
    assert ENGINE.remove_all(labels) == 2
    wait_until(lambda: not any(map(alive, started)), "all four to be gone")
    assert ENGINE.remove_all(labels) == 0


def test_nothing_is_removed_for_want_of_labels():
    with pytest.raises(ValueError, match="no labels"):
        ENGINE.remove_all({})


def test_a_signal_reaches_the_first_process_alone(plan):
    handler = (
        "import signal, sys; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9)); __import__('os').write(1, b'up')"
    )
    running = ENGINE.start(plan(*python(f"{handler}; signal.pause()")))
    assert next(running.logs()).data == b"up"
    running.kill(signal.SIGUSR1)
    assert running.wait(120) == 9
    running.kill(signal.SIGUSR1)


def test_a_killed_process_takes_its_tree_along(plan):
    """A container ends with its first process, and all others with it."""
    running = ENGINE.start(plan(*python(FAMILY)))
    started = pids(running)
    running.kill(signal.SIGKILL)
    assert running.wait(120) == 137
    wait_until(lambda: not any(map(alive, started)), "both to be gone")


def test_a_daemon_ends_with_the_container_that_left_it(plan, labels):
    """A container ends with its first process, however thoroughly another one has detached itself."""
    daemon = """
        import os, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.wait()
    """
    running = ENGINE.start(plan(*python(daemon)))
    assert running.wait(120) == 0
    assert output_of(running) == ""  # to its end: nobody has it open any more
    assert ENGINE.find(labels) == []


def test_a_tool_inside_of_a_job_does_not_pass_the_jobs_mark_on(plan, labels, monkeypatch):
    monkeypatch.setenv("BYOC_LABELS", '{"outer": "yes"}')
    monkeypatch.setenv("BYOC_CONTAINER", "outer")
    running = ENGINE.start(plan("env"))
    assert "outer" not in output_of(running)


@pytest.mark.parametrize("end", ["by itself", "killed", "found by another"])
def test_what_stands_for_tmp_is_gone_with_the_process(tmp_path, labels, end):
    engine, said = ProcessEngine(), tmp_path / "said"
    place = shlex.quote(str(said))
    script = f"mktemp > {place}.new; mv {place}.new {place}; {'' if end == 'by itself' else 'sleep 600'}"
    plan = ContainerPlan("c", "train", "", tmp_path, {}, labels=labels, entrypoint=("sh", "-c"), arguments=(script,))
    running = engine.start(plan)
    wait_until(said.exists, "the name of a temporary file", 60)
    folder = Path(said.read_text().strip()).parent
    if end == "killed":
        running.kill(signal.SIGKILL)
    elif end == "found by another":
        engine.remove_all(labels)
    running.wait(60)
    assert folder != Path(tempfile.gettempdir())
    assert not folder.parent.exists()


def test_what_stands_for_tmp_is_gone_where_the_process_ended_after_its_tool_was_killed(labels, tmp_path, monkeypatch):
    """4.9: kill -9 of the tool leaves nothing, also between the end that it asked of a process and that end."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    tool = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(f"""
            from pathlib import Path
            from local_sagemaker.engines import ContainerPlan, ProcessEngine
            from local_sagemaker.engines.process_marks import find_trees
            running = ProcessEngine().start(ContainerPlan(
                "one", "train", "image", Path({str(tmp_path)!r}), {{}}, labels={labels!r}, entrypoint=("sleep", "600")))
            print(find_trees({labels!r})[0].leader, flush=True)
            running.wait()
        """)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with tool:
        started = int(tool.stdout.readline())
        tool.kill()
    subprocess.run(["kill", "-9", str(started)], check=True)
    wait_until(lambda: not alive(started), "the process to be gone")
    kept = make_temporary({"byoc.test": "another"})
    assert len(list(temporary.iterdir())) == 2
    assert ENGINE.remove_all(labels) == 0
    assert list(temporary.iterdir()) == [kept]


def test_an_end_is_told_though_the_process_table_cannot_be_read(plan, monkeypatch):
    """1.12: too many open files, say."""

    def refused(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("local_sagemaker.engines.process.find_trees", refused)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    assert ENGINE.start(plan(*python("raise SystemExit(3)"))).wait(60) == 3

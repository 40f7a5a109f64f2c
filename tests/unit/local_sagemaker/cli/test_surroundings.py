"""What a shell, a terminal and a supervisor expect of any command: streams, signals, and what is left as it was."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from local_sagemaker.cli import main
from local_sagemaker.cli.surroundings import STOPS
from local_sagemaker.progress import say

BYOC = [sys.executable, "-m", "local_sagemaker"]
ENGINE = ("--engine", "process")


def without_reader(*arguments, **options):
    """Run a command whose standard output nobody reads; returns its exit code and what it said of it."""
    read, write = os.pipe()
    os.close(read)
    try:
        ran = subprocess.run(
            [*BYOC, *map(str, arguments)], stdout=write, stderr=subprocess.PIPE, timeout=300, check=False, **options
        )
    finally:
        os.close(write)
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--list"),
        ("check", "--list", "--json"),
        ("--help",),
        ("train", "--help"),
        (),
        ("ps",),
        ("ps", "--json"),
    ],
    ids=" ".join,
)
def test_a_command_whose_reader_has_gone_ends_quietly_as_sigpipe_ends_others(arguments, tmp_path):
    assert without_reader(*arguments, cwd=tmp_path) == (141, b"")


def test_a_job_whose_reader_has_gone_goes_on_to_its_end(make_project):
    root = make_project(train="print('a line'); open(__import__('os').environ['SM_MODEL_DIR'] + '/model', 'w')")
    code, said = without_reader("train", root, *ENGINE, "--job-name", "job")
    assert code == 0, said
    assert (root / ".byoc/jobs/job/model.tar.gz").is_file()
    assert (root / ".byoc/jobs/job/logs.txt").read_text() == "a line\n"


def test_a_job_goes_on_when_nobody_reads_its_messages_either(make_project):
    root = make_project(train="print('a line')")
    read, write = os.pipe()
    os.close(read)
    command = [*BYOC, "train", str(root), *ENGINE, "--job-name", "job"]
    ran = subprocess.run(command, stdout=write, stderr=write, timeout=300, check=False)
    os.close(write)
    assert ran.returncode == 0
    assert (
        "Completed" in subprocess.run([*BYOC, "ps", "--all"], cwd=root, capture_output=True, check=True).stdout.decode()
    )


def test_closed_streams_are_no_fault(tmp_path):
    for redirection in (">&-", "2>&-", "<&- >&- 2>&-"):
        command = f'exec "$0" -m local_sagemaker ps --json {redirection}'
        ran = subprocess.run(
            ["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, timeout=300, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_full_disk_below_standard_output_is_told_and_fails(tmp_path):
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([*BYOC, "doctor", "--json"], stdout=full, stderr=subprocess.PIPE, timeout=300, check=False)
    assert ran.returncode == 2
    assert b"No space left" in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_a_character_that_the_terminal_lacks_is_shown_by_its_number(tmp_path):
    project = tmp_path / "größe"
    project.mkdir()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([*BYOC, "ps"], cwd=project, env=environment, capture_output=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert b"gr\\xf6\\xdfe" in ran.stdout


@pytest.mark.parametrize("number", STOPS, ids=lambda number: number.name)
def test_a_job_in_the_foreground_is_stopped_and_kept_by_each_signal_that_asks_for_the_end(make_project, number):
    """1.12, 10.3: a supervisor's stop, Ctrl-C and a terminal that is closed alike."""
    root = make_project(
        train="""
            import os, signal, sys
            def save(*_):
                open(os.environ["SM_MODEL_DIR"] + "/saved", "w").close()
                sys.exit(0)
            signal.signal(signal.SIGTERM, save)
            print("ready", flush=True)
            while True:
                signal.pause()
        """
    )
    command = [*BYOC, "train", str(root), *ENGINE, "--job-name", "job"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(number)
        assert running.wait(60) == 130
    assert (root / ".byoc/jobs/job/model.tar.gz").is_file()


def test_under_nohup_a_job_outlives_its_terminal(make_project, tmp_path):
    go = tmp_path / "go"
    root = make_project(
        train=f"""
            import pathlib, time
            print("ready", flush=True)
            while not pathlib.Path({str(go)!r}).exists():
                time.sleep(0.05)
        """
    )
    command = ["nohup", *BYOC, "train", str(root), *ENGINE, "--job-name", "job"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGHUP)
        go.touch()
        assert running.wait(60) == 0


def test_main_leaves_signals_and_streams_of_a_program_that_calls_it_as_they_were(capsys):
    before = [signal.getsignal(number) for number in STOPS], sys.stdout, sys.stderr, sys.stdout.errors
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--no-such-option"])
    assert ended.value.code == 2
    assert ([signal.getsignal(number) for number in STOPS], sys.stdout, sys.stderr, sys.stdout.errors) == before


def test_main_can_be_called_in_a_thread():
    codes = []

    def call():
        try:
            main(["check", "--list", "--json"])
        except SystemExit as ended:
            codes.append(ended.code)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert codes == [0]


def test_a_message_that_nobody_can_read_is_no_failure(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        say("a line")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

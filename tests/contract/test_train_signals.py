"""Stopping: who hears of it, how long is waited, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.opt_ml import OptMl
from tests.support.places import RUNTIME
from tests.support.processes import alive
from tests.support.training import RunningJob, TrainRun, clean_environment, job_environment
from tests.support.waiting import wait_until

Start = Callable[..., AbstractContextManager[RunningJob]]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_script_that_saves_when_told_to_stop_ends_well(opt_ml: OptMl, job: Start, signum: signal.Signals) -> None:
    """1.12, 1.13, 10.2: the signal reaches the script, and its exit code is the job's."""
    with job("saves_on_sigterm") as running:
        running.wait_for_line("ready")
        running.process.send_signal(signum)
        assert running.wait() == 0
    assert (opt_ml.base / "model" / "checkpoint.txt").read_text() == "epoch 7\n"
    assert opt_ml.failure is None


def test_script_hears_of_the_stop_within_half_a_second(job: Start) -> None:
    """1.12: the grace time is the script's, not ours."""

    def stop() -> float:
        with job("saves_on_sigterm") as running:
            running.wait_for_line("ready")
            began = time.monotonic()
            running.terminate()
            running.wait_for_line("saved")
            heard = time.monotonic() - began
            running.wait()
        return heard

    assert any(stop() < 0.5 for _ in range(5)), "slow each time, and not now and then as on a busy machine"


def test_script_that_ignores_the_stop_is_killed_after_the_grace(job: Start) -> None:
    """1.12: before the platform does it, so that the reason is still written."""
    with job("ignores_sigterm", {"BYOC_STOP_GRACE_SECONDS": "1"}) as running:
        running.wait_for_line("ready")
        began = time.monotonic()
        running.terminate()
        assert running.wait() == 137
        assert 0.9 <= time.monotonic() - began < 30


def test_script_without_a_handler_ends_by_the_signal(job: Start) -> None:
    """1.12, 1.14: 128 + 15."""
    with job("dies_by_sigterm") as running:
        running.wait_for_line("ready")
        running.terminate()
        assert running.wait() == 143


def test_stop_reaches_the_scripts_children(job: Start) -> None:
    """1.12: data loaders and launched workers are told too."""
    with job("stops_with_its_children", {"BYOC_STOP_GRACE_SECONDS": "10"}) as running:
        running.wait_for_line("worker ready")
        running.terminate()
        assert running.wait() == 0, running.log


def test_second_stop_is_no_harm(job: Start) -> None:
    """10.2: a person presses Ctrl-C twice; the grace time still holds."""
    with job("ignores_sigterm", {"BYOC_STOP_GRACE_SECONDS": "1"}) as running:
        running.wait_for_line("ready")
        running.terminate()
        running.process.send_signal(signal.SIGINT)
        running.terminate()
        assert running.wait() in {130, 137}


def test_child_that_the_script_forgot_ends_with_the_job(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """1.8: the job is over when the script is."""
    began = time.monotonic()
    assert train("leaves_a_child").exit_code == 0
    assert time.monotonic() - began < 30
    document = opt_ml.output("child.json")
    assert isinstance(document, dict)
    wait_until(lambda: not alive(document["pid"]), "the forgotten child to be gone")


def _can_make_a_process_namespace() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and os.system("unshare -fp --mount-proc true 2>/dev/null") == 0  # noqa: S605


@pytest.mark.skipif(not _can_make_a_process_namespace(), reason="making a process namespace is not allowed here")
def test_orphans_are_reaped_when_the_launcher_is_process_1(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """0.4: there is no tini, so process 1 of the image reaps."""
    run = train("leaves_an_orphan", prefix=("unshare", "-fp", "--mount-proc"))
    assert run.exit_code == 0, run.log
    document = opt_ml.output("orphan.json")
    assert document == {"parent": 1, "reaped": True}


@pytest.mark.parametrize("name", ["train", "serve", "default"])
def test_stop_that_comes_while_the_runtime_is_imported_is_not_lost(tmp_path: Path, name: str) -> None:
    """1.12, 13.2: process 1 loses what it neither handles nor blocks, so it blocks before it imports ours."""
    package = tmp_path / "sagemaker_byoc"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))); raise SystemExit(0)"
    )
    ran = subprocess.run(
        [sys.executable, "-S", RUNTIME / name], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True
    )
    blocked = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}
    assert ran.stdout.decode().strip() == str(sorted(blocked))


def test_stop_that_was_pending_at_the_start_ends_the_job_before_its_script(opt_ml: OptMl) -> None:
    """1.12, 1.14."""
    opt_ml.code("succeeds")

    def be_told_to_stop() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        os.kill(os.getpid(), signal.SIGTERM)

    ran = subprocess.run(
        [sys.executable, RUNTIME / "train"],
        env=job_environment(opt_ml),
        capture_output=True,
        check=False,
        preexec_fn=be_told_to_stop,
    )
    assert (ran.returncode, ran.stdout) == (143, b"")
    assert opt_ml.failure is None


def test_stop_that_comes_when_all_is_over_changes_no_exit_code() -> None:
    """1.14: one client stops the other hosts as soon as the first has ended."""
    program = (
        "import os, signal\n"
        "from sagemaker_byoc.processes import blocked_signals\n"
        "with blocked_signals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "raise SystemExit(3)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], env=clean_environment(), check=False).returncode == 3

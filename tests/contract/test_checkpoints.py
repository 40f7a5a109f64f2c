"""Checkpoints under fire: killed at any moment, interrupted by the platform, gone on with in a fresh container."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from sagemaker_byoc import atomic

from tests.support.opt_ml import OptMl
from tests.support.places import program
from tests.support.training import RunningJob, job_environment

RUNS = 50
INTERVAL = 3
Start = Callable[..., AbstractContextManager[RunningJob]]


def test_no_kill_at_any_moment_tears_a_checkpoint_or_costs_more_than_one_interval(opt_ml: OptMl) -> None:
    """7.3, 7.5, 7.6: 50 runs of one training, each killed at a random moment."""
    chance = random.Random(20)  # noqa: S311 - moments, no secrets
    reached, torn_writes = 0, 0
    for run in range(RUNS):
        resumed, state, last = run_and_kill(opt_ml, chance.uniform(0, 0.12))
        assert reached - resumed <= INTERVAL, f"run {run}: step {reached} was reached, step {resumed} resumed"
        assert state == state_after(resumed)
        reached = last
        torn_writes += any(name.startswith(atomic.UNFINISHED) for name in atomic.names(opt_ml.base))
    assert torn_writes >= 5, "the kills did not meet a write; this test has shown little"
    assert reached > RUNS, "hardly a step was made; this test has shown little"
    assert len(atomic.names(opt_ml.base / "checkpoints")) == 2


def run_and_kill(opt_ml: OptMl, seconds: float) -> tuple[int, str, int]:
    """Let it train for some time once it has resumed. The step and state resumed from, and the last step printed."""
    process = subprocess.Popen(
        [sys.executable, str(program("checkpoints_for_ever") / "train.py")],
        env=job_environment(opt_ml),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline().split()
    time.sleep(seconds)  # the random moment itself, nothing is awaited
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, errors
    steps = [int(line.split()[1]) for line in rest.splitlines() if line.startswith("step ") and line.split()[1:]]
    return int(first[1]), first[2], steps[-1] if steps else int(first[1])


def state_after(steps: int) -> str:
    """What the program's state is after so many steps."""
    state = bytes(32)
    for _ in range(steps):
        state = hashlib.sha256(state).digest()
    return state.hex()


def test_script_that_listens_saves_and_ends_well_when_the_job_is_stopped(opt_ml: OptMl, job: Start) -> None:
    """1.12, 1.13, 7.4, 7.5: through `train`; the next run goes on from there."""
    for expected in (0, 1):
        with job("saves_a_checkpoint_on_sigterm", {"TRAINING_JOB_NAME": "spot"}) as running:
            running.wait_for_line(f"ready, {expected} runs before")
            running.terminate()
            assert running.wait() == 0
    saved = atomic.names(opt_ml.base / "checkpoints")
    assert [name.split("-")[1:4] for name in saved] == [["000000000001", "algo", "1"], ["000000000002", "algo", "1"]]
    assert opt_ml.failure is None


def test_folder_of_the_checkpoint_configuration_is_used(opt_ml: OptMl, job: Start) -> None:
    """2.14, 7.1: LocalPath from the platform's file."""
    elsewhere = opt_ml.base / "elsewhere"
    opt_ml.config("checkpointconfig.json", json.dumps({"S3Uri": "s3://bucket/c", "LocalPath": str(elsewhere)}))
    with job("saves_a_checkpoint_on_sigterm") as running:
        running.wait_for_line("ready")
        running.terminate()
        assert running.wait() == 0
    assert len(atomic.names(elsewhere)) == 1
    assert not atomic.names(opt_ml.base / "checkpoints")

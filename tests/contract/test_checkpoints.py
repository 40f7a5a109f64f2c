"""Checkpoints under fire: killed at any moment, interrupted by the platform, gone on with in a fresh container."""

import hashlib
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

from sagemaker_byoc import atomic

from tests.support.opt_ml import OptMl
from tests.support.places import program
from tests.support.training import RunningJob, job_environment

RUNS = 50
INTERVAL = 3
MOST_STEPS = 8
Start = Callable[..., AbstractContextManager[RunningJob]]


def test_no_kill_at_any_moment_tears_a_checkpoint_or_costs_more_than_one_interval(opt_ml: OptMl) -> None:
    """7.3, 7.5, 7.6: 50 runs of one training, each killed at a random moment of a save or between two."""
    chance = random.Random(20)  # noqa: S311 - moments, no secrets
    reached, torn_writes = 0, 0
    saves: list[float] = []
    for run in range(RUNS):
        moment = chance.random() * (statistics.median(saves) if saves else 0)
        killed = run_and_kill(opt_ml, chance.randint(0, MOST_STEPS), moment)
        assert reached - killed.resumed <= INTERVAL, (
            f"run {run}: step {reached} was reached, step {killed.resumed} resumed"
        )
        assert killed.state == state_after(killed.resumed)
        reached = killed.reached
        saves += killed.saves
        torn_writes += any(name.startswith(atomic.UNFINISHED) for name in atomic.names(opt_ml.base))
    assert torn_writes >= 5, "the kills did not meet a write; this test has shown little"
    assert reached > RUNS, "hardly a step was made; this test has shown little"
    run_and_kill(opt_ml, INTERVAL + 1, 0)  # a save that came to its end deletes what killed ones could not any more
    assert len(atomic.names(opt_ml.base / "checkpoints")) <= 3  # and this kill may have met the deletion itself


@dataclass(frozen=True)
class Killed:
    """A run: the step and state it went on from, the last step it printed, the seconds that each of its saves took."""

    resumed: int
    state: str
    reached: int
    saves: list[float]


def run_and_kill(opt_ml: OptMl, steps: int, seconds: float) -> Killed:
    """Let it train for so many steps, however long they take here, and some seconds more."""
    process = subprocess.Popen(
        [sys.executable, str(program("checkpoints_for_ever") / "train.py")],
        env=job_environment(opt_ml),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline().split()
    printed = [time.monotonic() for _ in range(steps) if process.stdout.readline()]
    time.sleep(seconds)  # the random moment itself, nothing is awaited
    process.send_signal(signal.SIGKILL)
    rest, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors
    resumed = int(first[1])
    more = [int(line.split()[1]) for line in rest.splitlines() if line.startswith("step ") and line.split()[1:]]
    saves = [after - before for before, after in pairwise(printed)][INTERVAL - 1 :: INTERVAL]
    return Killed(resumed, first[2], more[-1] if more else resumed + steps, saves)


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

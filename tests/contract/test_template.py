"""The template trains alone and with others, stops together, and goes on as if nothing had been."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY
from tests.support.processes import descendants
from tests.support.training import RunningJob, job_environment, run_train
from tests.support.waiting import wait_until

TEMPLATE = REPOSITORY / "opt_ml_template"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SMALL = ["--width", "8", "--seed", "3"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # more of them only get in each other's way on so small a network


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template's own data, written once."""
    project = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, str(TEMPLATE / "prepare_data.py"), "--project", str(project)], check=True)
    return project / "input" / "data"


def job(base: Path, digits: Path, **hyperparameters: str) -> OptMl:
    """A job of the template on the digits; small and short if nothing else is said."""
    tree = OptMl.make(base)
    shutil.copytree(TEMPLATE / "code", tree.base / "code", dirs_exist_ok=True)
    for name in ("train", "validation"):
        tree.channel(name, {"digits.npz": (digits / name / "digits.npz").read_bytes()})
    tree.hyperparameters(**{"epochs": "2", "width": "8", "seed": "3", **hyperparameters})
    return tree


class Pair:
    """The template in two processes of this machine, started by torchrun."""

    def __init__(self, tree: OptMl, *arguments: str) -> None:
        """Start them; both streams go to one file."""
        self.file = tree.base.with_suffix(".log")
        with self.file.open("wb") as sink:
            self.process = subprocess.Popen(
                [*TORCHRUN, str(tree.base / "code" / "train.py"), *arguments],
                env=job_environment(tree, ONE_THREAD),
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*descendants(self.process.pid), *([self.process] if self.process.poll() is None else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        """All they have written up to now."""
        return self.file.read_text(errors="replace")

    def wait(self) -> str:
        """The log, once both have ended well."""
        assert self.process.wait(300) == 0, self.log
        return self.log

    def pid_of(self, rank: int) -> int:
        """The process that is this rank."""
        wanted, found = f"RANK={rank}".encode(), list[int]()

        def is_there() -> bool:
            for one in descendants(self.process.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                    if wanted in Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0"):
                        found.append(one.pid)
            return bool(found)

        wait_until(is_there, f"rank {rank}")  # its environment is empty while it is being started
        return found[0]


def fingerprints(log: str) -> dict[str, str]:
    """Rank to the hash of its final parameters."""
    return dict(re.findall(r"rank=(\d+) parameters=([0-9a-f]{64})$", log, re.MULTILINE))


def accuracies(log: str) -> list[float]:
    """The validation accuracy of each epoch, as the platform's metrics would find them."""
    return [float(value) for value in re.findall(r"validation_accuracy=([-+0-9.eE]+);", log)]


def test_interrupted_run_ends_with_the_same_bits_as_one_that_was_not(tmp_path: Path, digits: Path) -> None:
    """1.13, 7.2, 7.5: SIGTERM within an epoch, save, fresh container, resume; only the checkpoints live on."""
    whole = run_train(job(tmp_path / "whole", digits, epochs="4"), env=ONE_THREAD, seconds=300)
    assert whole.exit_code == 0, whole.log

    first = job(tmp_path / "first", digits, epochs="4")
    with RunningJob(first, tmp_path / "first.log", ONE_THREAD) as running:
        running.wait_for_line("epoch=1 ", 120)
        running.terminate()
        assert running.wait(300) == 0, running.log
        interrupted = running.log
    assert "asked to stop during epoch" in interrupted
    assert (first.base / "model" / "weights.pt").is_file()

    second = job(tmp_path / "second", digits, epochs="4")
    shutil.copytree(first.base / "checkpoints", second.base / "checkpoints", dirs_exist_ok=True)
    resumed = run_train(second, env=ONE_THREAD, seconds=300)
    assert resumed.exit_code == 0, resumed.log
    assert "resuming after step" in resumed.log
    assert fingerprints(resumed.log) == fingerprints(whole.log) != fingerprints(interrupted)
    histories = [(run.base / "output/data/history.json").read_bytes() for run in (second, OptMl(tmp_path / "whole"))]
    assert histories[0] == histories[1]


def test_two_ranks_end_with_equal_bits_and_the_accuracy_of_one(tmp_path: Path, digits: Path) -> None:
    """5.8, 8.3: one prints metrics, one saves, and the batch is the same however many share it."""
    alone = run_train(job(tmp_path / "alone", digits, epochs="3"), env=ONE_THREAD, seconds=300)
    with Pair(job(tmp_path / "pair", digits), *SMALL, "--epochs", "3") as pair:
        log = pair.wait()
    assert len(fingerprints(log)) == 2
    assert len(set(fingerprints(log).values())) == 1
    assert len(accuracies(log)) == 3
    assert log.count("model saved") == 1
    assert abs(accuracies(log)[-1] - accuracies(alone.log)[-1]) < 0.08
    assert accuracies(log)[-1] > 0.7


def test_ranks_stop_together_when_one_is_asked_to_and_go_on_to_the_same_bits(tmp_path: Path, digits: Path) -> None:
    """1.8, 1.12, 7.2, 7.5: a rank that left alone would leave the other waiting for ever."""
    arguments = [*SMALL, "--epochs", "4"]
    with Pair(job(tmp_path / "whole", digits), *arguments) as pair:
        whole = pair.wait()
    tree = job(tmp_path / "interrupted", digits)
    with Pair(tree, *arguments) as pair:
        wait_until(lambda: "epoch=1 " in pair.log, "the first epoch", 120)
        os.kill(pair.pid_of(1), signal.SIGTERM)
        assert "asked to stop during epoch" in pair.wait()
    with Pair(tree, *arguments) as pair:
        resumed = pair.wait()
    assert "resuming after step" in resumed
    assert fingerprints(resumed) == fingerprints(whole)


def test_ranks_combine_what_one_process_would_compute(tmp_path: Path) -> None:
    """5.8: gradients of uneven and empty shares, statistics, numbers, flags and objects."""
    tree = OptMl.make(tmp_path / "pair")
    tree.code("combines_ranks")
    shutil.copy(TEMPLATE / "code" / "ranks.py", tree.base / "code")
    with Pair(tree) as pair:
        log = pair.wait()
    assert log.count("has threads") == 2
    assert "gloo" not in log, "a thread of the process group is left, and may abort the process as it ends"
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert sorted(line["rank"] for line in lines) == [0, 1]
    for line in lines:
        assert line["difference"] < 1e-6
        assert (line["size"], line["mean"], line["numbers"]) == (2, 0.5, [3.0, 1.0])
        assert (line["totals"], line["any"], line["from_leader"]) == ([2.0**41, 1.0], [True, False], {"rank": 0})


def test_too_few_images_for_the_ranks_are_refused_by_number(tmp_path: Path, digits: Path) -> None:
    """5.8: not a division by nothing in the middle of training."""
    with Pair(job(tmp_path / "pair", digits), "--batch-size", "3") as pair:
        assert pair.process.wait(300) != 0
    assert "in batches of 3 are too few: expected 2 for each of 2 ranks" in pair.log


def test_ranks_of_mpirun_without_horovod_are_told_so(tmp_path: Path, digits: Path) -> None:
    """5.3: rather than so many trainings that know nothing of each other."""
    tree = job(tmp_path / "alone", digits)
    ran = run_train(tree, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, seconds=300)
    assert ran.exit_code == 1
    assert "Horovod, which joins them, is not in this image" in (ran.failure or "")


def test_hyperparameters_that_the_platform_adds_are_no_error(tmp_path: Path, digits: Path) -> None:
    """2.4: a tuning job's, for one."""
    ran = run_train(job(tmp_path / "alone", digits, epochs="1", **{"never-heard-of": "1"}), env=ONE_THREAD, seconds=300)
    assert ran.exit_code == 0, ran.log
    assert "not used by this script: --never-heard-of 1" in ran.log


def test_channel_without_data_is_named(tmp_path: Path) -> None:
    """3.9: an empty channel is possible; training on nothing is not."""
    tree = OptMl.make(tmp_path / "opt_ml")
    shutil.copytree(TEMPLATE / "code", tree.base / "code", dirs_exist_ok=True)
    ran = run_train(tree, seconds=300)
    assert ran.exit_code == 1
    assert f"no .npz file in {tree.base}/input/data/train" in (ran.failure or "")

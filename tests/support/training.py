"""Run the `train` executable as a process on a tree in a temporary folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.opt_ml import OptMl
from tests.support.places import CONTAINER, RUNTIME
from tests.support.waiting import wait_until

PLATFORM_PREFIXES = ("SM_", "SAGEMAKER_", "BYOC_", "AWS_", "TRAINING_JOB_")


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without anything a platform, a toolkit or a person may have set."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(PLATFORM_PREFIXES)}
    environment["PYTHONPATH"] = str(CONTAINER)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment.update(extra or {})
    return environment


def job_environment(tree: OptMl, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a job on ``tree`` starts with: private base folder, and no code baked into an image."""
    places = {"SAGEMAKER_BASE_DIR": str(tree.base), "BYOC_IMAGE_CODE_DIR": str(tree.base / "no-image-code")}
    return clean_environment({**places, **(extra or {})})


@dataclass(frozen=True)
class TrainRun:
    """How a job ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    failure: str | None

    @property
    def log(self) -> str:
        """Both streams, for messages and searches."""
        return (self.stdout + self.stderr).decode("utf-8", "replace")


def run_train(
    tree: OptMl,
    env: Mapping[str, str] | None = None,
    python: Sequence[str] = (),
    prefix: Sequence[str] = (),
    seconds: float = 180.0,
) -> TrainRun:
    """Run the job to its end.

    Args:
        tree: the job's /opt/ml.
        env: further environment variables.
        python: options for the interpreter that runs the launcher.
        prefix: a command that runs the launcher (``unshare ...``).
        seconds: the limit; a job that runs longer is an error of the test.
    """
    done = subprocess.run(
        [*prefix, sys.executable, *python, str(RUNTIME / "train")],
        env=job_environment(tree, env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    return TrainRun(done.returncode, done.stdout, done.stderr, tree.failure)


class RunningJob:
    """A job that was started and is watched; as a context manager it never outlives its block."""

    def __init__(self, tree: OptMl, log: Path, env: Mapping[str, str] | None = None) -> None:
        """Start the job on ``tree``; both its streams go to the file ``log``."""
        self.tree = tree
        self._log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, str(RUNTIME / "train")],
                env=job_environment(tree, env),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """All it has written up to now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, text: str, seconds: float = 180.0) -> None:
        """Wait until ``text`` appears in the log; fails at once when the job ends without it."""
        wait_until(lambda: text in self.log, f"{text!r} in the job's log", seconds, self._ended)

    def wait(self, seconds: float = 180.0) -> int:
        """The exit code, waiting for it up to ``seconds``."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the job did not end within {seconds:g} s; its log:\n{self.log}") from None

    def terminate(self) -> None:
        """Stop it the way the platform does."""
        self.process.send_signal(signal.SIGTERM)

    def _ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"the job ended with exit code {code}; its log:\n{self.log}"

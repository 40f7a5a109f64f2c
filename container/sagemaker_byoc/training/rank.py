"""One rank: a copy of the user's script under supervision, with its own host's environment and its output whole.

torchrun, mpirun or our own launcher starts this program in place of the script (`python -m … DIRECTORY`). It reads
what to run from the launcher's run directory on its host, so no hyperparameter travels over a command line or a
network, and every rank sees the SM_* variables of its own host.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc import processes
from sagemaker_byoc.child import Outcome, supervise
from sagemaker_byoc.memory import describe_out_of_memory, read_memory
from sagemaker_byoc.training.launch import LaunchPlan
from sagemaker_byoc.training.rank_report import RankFailure, RankProcess, announce, read_failures, report_failure
from sagemaker_byoc.training.report import ends_in_traceback, failure_reason
from sagemaker_byoc.training.streams import LinePump

PLAN_FILE = "launch.json"
ABORT_GRACE_SECONDS = 3.0
RANK_VARIABLE = "BYOC_RANK"  # where the launcher itself numbers the ranks
_RANK_VARIABLES = (RANK_VARIABLE, "RANK", "HOROVOD_RANK", "OMPI_COMM_WORLD_RANK")
# What a login or a shell sets; everything else that the rank's parent set is meant for the rank.
_LOGIN_VARIABLES = frozenset(
    {"HOME", "LANG", "LOGNAME", "MAIL", "OLDPWD", "PATH", "PWD", "SHELL", "SHLVL", "USER", "_"}
)
_HOST_PREFIXES = ("SM_", "SAGEMAKER_", "TRAINING_JOB_", "CURRENT_HOST", "AWS_", "BYOC_")


@dataclass(frozen=True)
class RankPlan:
    """What every rank of this host runs, as the launcher wrote it down."""

    launch: LaunchPlan
    host: str
    launcher: int

    def write(self, directory: Path) -> None:
        document = {
            "script": self.launch.script,
            "command": list(self.launch.command),
            "environ": dict(self.launch.environ),
            "folder": str(self.launch.folder),
            "stop_grace_seconds": self.launch.stop_grace_seconds,
            "host": self.host,
            "launcher": self.launcher,
        }
        (directory / PLAN_FILE).write_text(json.dumps(document), encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "RankPlan":
        document: dict[str, Any] = json.loads((directory / PLAN_FILE).read_text(encoding="utf-8"))
        launch = LaunchPlan(
            script=document["script"],
            command=tuple(document["command"]),
            environ=document["environ"],
            folder=Path(document["folder"]),
            stop_grace_seconds=document["stop_grace_seconds"],
        )
        return cls(launch, document["host"], document["launcher"])


def rank_command(directory: Path) -> tuple[str, ...]:
    """What a launcher starts in place of the script."""
    return (sys.executable, "-m", "sagemaker_byoc.training.rank", str(directory))


def main() -> int:
    """Run the rank that the environment names; returns the script's exit code, 128 + n for signal n."""
    directory = Path(sys.argv[1])
    plan = RankPlan.read(directory)
    rank = int(next((os.environ[name] for name in _RANK_VARIABLES if os.environ.get(name)), "0"))
    attempt = attempt_of(os.environ)
    started = time.time()
    before = read_memory()
    environ = merge_environment(plan.launch.environ, os.environ)
    outcome, failed_at = run_rank(plan, rank, attempt, directory, environ)
    if outcome.exit_code != 0:
        reason = failure_reason(outcome, plan.launch.script, describe_out_of_memory(before, read_memory()))
        failure = RankFailure(plan.host, rank, failed_at, outcome.exit_code, reason, started, outcome.stopped, attempt)
        report_failure(directory, failure)
    return outcome.exit_code


def attempt_of(environ: Mapping[str, str]) -> str:
    """Which of torchrun's attempts this is, the same on all hosts: in each one the ranks meet at another address.

    Empty where ranks are started once. The count that torchrun gives differs between hosts.
    """
    if int(environ.get("TORCHELASTIC_MAX_RESTARTS") or 0) == 0:
        return ""
    return f"{environ.get('MASTER_ADDR')}:{environ.get('MASTER_PORT')}"


def merge_environment(hosts: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """The host's environment, and what the rank's parent added: its rank, its peers, the job's `-x NAME=value`."""
    added = {
        name: value
        for name, value in ours.items()
        if name not in _LOGIN_VARIABLES and not (name in hosts and name.startswith(_HOST_PREFIXES))
    }
    return {**hosts, **added}


def run_rank(
    plan: RankPlan, rank: int, attempt: str, directory: Path, environ: Mapping[str, str]
) -> tuple[Outcome, float]:
    """Run the script to its end; returns the outcome and the time of its failure in seconds since the epoch."""
    launch = plan.launch
    with processes.blocked_signals():
        child = processes.start(
            launch.command,
            environ,
            launch.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            ends_with_parent=True,
        )
        announce(directory, RankProcess(rank, os.getpid(), child.pid, attempt, time.monotonic()))
        if child.stdout is None or child.stderr is None:
            raise AssertionError("two pipes were asked for")
        out, err = _log_of_this_host(plan.launcher)
        turns = directory / "turns"
        pumps = [LinePump(child.stdout.fileno(), out, turns), LinePump(child.stderr.fileno(), err, turns)]
        for pump in pumps:
            pump.start()
        exit_code, stopped_at = supervise(child.pid, lambda: _grace(launch, attempt, directory))
        ended_at = time.time()
        child.returncode = exit_code
        processes.send(child.pid, signal.SIGKILL)
        stderr = [pump.tail() for pump in pumps][1]
        failed_at = pumps[1].traceback_at or ended_at
        if stopped_at is not None and failed_at < stopped_at and ends_in_traceback(stderr):
            # It had failed by itself and was still leaving, which can take long in a library that waits for its peers.
            return Outcome(1, stderr), failed_at
        return Outcome(exit_code, stderr, stopped=stopped_at is not None), failed_at


def _grace(launch: LaunchPlan, attempt: str, directory: Path) -> float:
    """Seconds that the script has to end: few when another rank has failed, for then there is nothing to save."""
    has_failed = any(failure.attempt == attempt for failure in read_failures(directory))
    return ABORT_GRACE_SECONDS if has_failed else launch.stop_grace_seconds


def _log_of_this_host(launcher: int) -> tuple[int, int]:
    """The launcher's own standard output and error. An MPI daemon would send ours to the leader, in torn pieces."""
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        try:
            return tuple(os.open(f"/proc/{launcher}/fd/{n}", os.O_WRONLY | os.O_APPEND) for n in (1, 2))  # type: ignore[return-value]
        except OSError:
            pass  # a socket cannot be opened anew, and other users' processes are closed to us
    return sys.stdout.fileno(), sys.stderr.fileno()


if __name__ == "__main__":
    raise SystemExit(main())

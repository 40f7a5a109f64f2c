"""The processes of one host, from start to end: one loop takes signals, ends, and what the other hosts say."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sagemaker_byoc import processes
from sagemaker_byoc.child import Outcome, is_stop, start_with_tail
from sagemaker_byoc.errors import PlatformInputError, UserCodeError
from sagemaker_byoc.stderr_tail import StderrTail
from sagemaker_byoc.training.cluster import Cluster, Verdict
from sagemaker_byoc.training.distribution import Distribution
from sagemaker_byoc.training.launch import LaunchPlan, heed_stop
from sagemaker_byoc.training.rank import ABORT_GRACE_SECONDS, RankPlan
from sagemaker_byoc.training.rank_report import RankProcess, read_failures, read_processes
from sagemaker_byoc.training.report import failure_reason

TICK_SECONDS = 0.1
SERVER_SECONDS = 60.0


@dataclass(frozen=True)
class Part:
    """What this host runs: the commands that make up the job here, and the servers that they need meanwhile."""

    commands: tuple[tuple[str, ...], ...]
    environments: tuple[Mapping[str, str], ...]
    servers: tuple[tuple[str, ...], ...] = ()
    server_environment: Mapping[str, str] = field(default_factory=dict)


class HostRun:
    """Runs a part until the whole job has its verdict, and leaves nothing behind."""

    def __init__(
        self, part: Part, launch: LaunchPlan, distribution: Distribution, directory: Path, cluster: Cluster
    ) -> None:
        self.part = part
        self._launch = launch
        self._distribution = distribution
        self._directory = directory
        self._cluster = cluster
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._running: dict[int, tuple[str, StderrTail, subprocess.Popen[bytes]]] = {}
        self._failed: tuple[int, str] | None = None  # the first command that failed: its exit code, and why
        self._reported: set[tuple[int | None, float]] = set()
        self._attempts: set[str] = set()
        self._stop: signal.Signals | None = None
        self._told: set[int] = set()
        self._kill_at: float | None = None
        self._port_setting = "BYOC_SSH_PORT" if distribution.kind == "mpi" else "BYOC_MASTER_PORT"

    def prepare(self, ports: tuple[int, ...]) -> None:
        """Write down what ranks run, start servers that do not run yet, wait until this host answers on `ports`.

        Raises UserCodeError when one cannot be started or ends, PlatformInputError when a port is another program's,
        Stopped when the platform gives up meanwhile.
        """
        taken = [port for port in ports if _answers(port)]
        if taken:
            raise PlatformInputError(
                f"port {taken[0]} of {self._distribution.current_host}, which the job's distribution needs, is used by "
                f"another program. End that program, or set {self._port_setting} to a free port on all hosts."
            )
        RankPlan(self._launch, self._distribution.current_host, os.getpid()).write(self._directory)
        for command in self.part.servers[len(self._servers) :]:
            try:
                server = processes.start(
                    command, {**self._launch.environ, **self.part.server_environment}, self._launch.folder,
                    ends_with_parent=True,
                )  # fmt: skip
            except OSError as error:
                raise UserCodeError(f"{command[0]} could not be started: {error}") from error
            self._servers[server.pid] = server
        deadline = time.monotonic() + SERVER_SECONDS
        for port in ports:
            while not _answers(port):
                heed_stop(0.02)
                dead = [pid for pid in self._servers if not _exists(pid)]
                if dead or time.monotonic() > deadline:
                    self._end_everything()
                    raise UserCodeError(
                        f"{' '.join(self.part.servers[0])} does not answer on port {port}; its lines above say why. "
                        f"If the port is taken, set {self._port_setting} to a free one."
                    )

    def run(self) -> Verdict:
        """Start the commands and stay until the job is over everywhere. Raises UserCodeError when one cannot start."""
        try:
            for command, added in zip(self.part.commands, self.part.environments, strict=True):
                child, tail = start_with_tail(command, {**self._launch.environ, **added}, self._launch.folder)
                self._running[child.pid] = (Path(command[0]).name, tail, child)
            return self._stay()
        finally:
            self._end_everything()

    def _stay(self) -> Verdict:
        has_told = not self.part.commands
        while True:
            self._take(processes.wait(TICK_SECONDS))
            for number in self._cluster.take_signals():
                self._deliver(signal.Signals(number))
            self._look_at_ranks()
            if not self._running and not has_told:
                has_told = True
                self._look_at_ranks()
                self._cluster.tell_ended(*(self._failed or (0, "")))
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._kill_ranks()
            verdict = self._cluster.verdict()
            if verdict is None and self._cluster.aborts() and self._stop is None:
                self._abort()
            if verdict is not None:
                if not self._running and not self._living():
                    return verdict
                self._abort()

    def _take(self, event: signal.Signals | processes.Ended | None) -> None:
        if isinstance(event, processes.Ended):
            self._note_end(event)
        elif event is not None:
            self._deliver(event)
            if is_stop(event):
                self._cluster.tell_signal(event)

    def _note_end(self, ended: processes.Ended) -> None:
        if ended.pid not in self._running:
            return
        name, tail, child = self._running.pop(ended.pid)
        child.returncode = ended.exit_code
        if ended.exit_code != 0 and self._failed is None:
            outcome = Outcome(ended.exit_code, tail.tail(), stopped=self._stop is not None)
            self._failed = (ended.exit_code, failure_reason(outcome, name))
            if self._stop is None:
                self._abort()  # ranks on this host that are still there wait for the one that is not

    def _deliver(self, number: signal.Signals) -> None:
        """Pass a signal on to every rank of this host; a stop also reaches ranks that have yet to start."""
        if is_stop(number) and self._stop is None:
            self._stop = number
            self._kill_at = self._kill_at or time.monotonic() + self._launch.stop_grace_seconds
        elif not is_stop(number):
            for rank in self._living():
                processes.send_one(rank.supervisor, number)

    def _look_at_ranks(self) -> None:
        """Tell a stop to ranks that have not heard of it, and the cluster what it has not heard of."""
        if self._stop is not None:
            for rank in self._living():
                if rank.supervisor not in self._told:
                    self._told.add(rank.supervisor)
                    processes.send_one(rank.supervisor, self._stop)
        failures = read_failures(self._directory)
        for process in read_processes(self._directory):  # read last: whoever failed had been announced
            if process.attempt and process.attempt not in self._attempts:
                self._attempts.add(process.attempt)
                self._cluster.tell_attempt(process.attempt)
        for failure in failures:
            if (failure.rank, failure.started) not in self._reported:
                self._reported.add((failure.rank, failure.started))
                self._cluster.tell_failure(failure)

    def _abort(self) -> None:
        """End this host's ranks soon: there is nobody left to work with."""
        deadline = time.monotonic() + ABORT_GRACE_SECONDS
        if self._kill_at is None or self._kill_at > deadline:
            self._kill_at = deadline
        self._stop = self._stop or signal.SIGTERM

    def _kill_ranks(self) -> None:
        for rank in self._living():
            processes.send(rank.script, signal.SIGKILL)
        for pid in self._running:
            processes.send(pid, signal.SIGKILL)

    def _living(self) -> list[RankProcess]:
        return [rank for rank in read_processes(self._directory) if _exists(rank.supervisor)]

    def _end_everything(self) -> None:
        for rank in read_processes(self._directory):
            if _exists(rank.supervisor):
                processes.send(rank.script, signal.SIGKILL)
                processes.send_one(rank.supervisor, signal.SIGKILL)
        for pid, child in [*((pid, child) for pid, (_, _, child) in self._running.items()), *self._servers.items()]:
            processes.send(pid, signal.SIGKILL)
            child.returncode = child.returncode if child.returncode is not None else -signal.SIGKILL
        sys.stderr.flush()


def _answers(port: int) -> bool:
    for address in ("127.0.0.1", socket.gethostname()):
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1.0):
            return True
    return False


def _exists(pid: int) -> bool:
    """Whether a process is there and has not ended; one that waits to be reaped has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"

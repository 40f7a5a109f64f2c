"""A container that probes look at: its state, processes, sockets, log and files, read from outside of it."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types

from local_sagemaker.conformance.setup import Setup
from local_sagemaker.tar import tarfile

POLL_SECONDS = 0.1
LAST_LINES = 10
ENDING_SECONDS = 2.0
MOST_LINKS = 10
# As much of a file as the kernel reads to know how to start it, and of an archive so that this is in it.
FIRST_BYTES = 256
ARCHIVE_BYTES = 16 * 1024
# One line a process: its number, its parent's, its state, and its name.
LIST_PROCESSES = r"""
for status in /proc/[0-9]*/status; do
  while read -r key value _; do
    case $key in Name:) name=$value;; State:) state=$value;; Pid:) pid=$value;; PPid:) parent=$value;; esac
  done < "$status" && echo "$pid $parent $state $name"
done 2>/dev/null
"""
# One line a thread of process 1: its state, the signals that it blocks and catches, and the call that it sleeps in.
LIST_THREADS = r"""
for status in /proc/1/task/*/status; do
  while read -r key value _; do
    case $key in State:) state=$value;; SigBlk:) blocked=$value;; SigCgt:) caught=$value;; esac
  done < "$status"
  place=
  read -r place < "${status%status}wchan"
  echo "$state $blocked $caught $place"
done 2>/dev/null
"""
LACKED_MEMORY = "the kernel killed a process of it, which needed more memory than the container may have"


@dataclass(frozen=True)
class Process:
    """A process inside of a container; ``is_dead`` where its parent has not yet asked how it ended."""

    pid: int
    parent: int
    name: str
    is_dead: bool = False


@dataclass(frozen=True)
class Thread:
    """A thread of process 1.

    Attributes:
        state: the letter of /proc; ``R`` is running.
        blocked: a bit for each signal.
        caught: a bit for each signal that has a handler.
        sleeps_in: the kernel's function, empty or ``0`` where that is not told.
    """

    state: str
    blocked: int
    caught: int
    sleeps_in: str


class Container:
    """A container of ours."""

    def __init__(self, container: Any, setup: Setup) -> None:
        self._container = container
        self.setup = setup

    @property
    def state(self) -> dict[str, Any]:
        """The engine's State of it."""
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return str(self.state["Status"]) in {"exited", "dead"}

    @property
    def exit_code(self) -> int:
        """Of a container that has ended."""
        return int(self.state["ExitCode"])

    @property
    def lacked_memory(self) -> bool:
        """Whether the kernel killed one of its processes at its limit, as the engine has seen; 137 says less."""
        return bool(self.state.get("OOMKilled"))

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that its server is reached at from here."""
        self._container.reload()
        settings = self._container.attrs["NetworkSettings"]
        published = (settings.get("Ports") or {}).get(f"{self.setup.port}/tcp")
        if published:
            return "127.0.0.1", int(published[0]["HostPort"])
        found = next((one["IPAddress"] for one in settings["Networks"].values() if one["IPAddress"]), "")
        return str(found), self.setup.port

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end; False if it still runs."""
        limit = time.monotonic() + seconds
        while not self.has_ended:
            if time.monotonic() >= limit:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def processor_seconds(self) -> float | None:
        """What its processes have used of the machine's cores so far; None where that is not told."""
        with suppress(docker.errors.APIError, KeyError):
            used = self._container.stats(stream=False, one_shot=True)["cpu_stats"]["cpu_usage"]["total_usage"]
            return float(used) / 1e9
        return None

    def seconds(self) -> float:
        """How long it ran."""
        state = self.state
        return _time(state["FinishedAt"]) - _time(state["StartedAt"])

    def log(self) -> str:
        """All that it has written so far."""
        return bytes(self._container.logs()).decode(errors="replace")

    def last_lines(self) -> str:
        """The end of its log, for evidence."""
        lines = self.log().splitlines()[-LAST_LINES:]
        return "\n".join(f"log: {line[:300]}" for line in lines) or "log: (empty)"

    def line_times(self) -> list[float]:
        """When each line arrived, in seconds before the end of a container that has ended."""
        end = _time(self.state["FinishedAt"])
        stamped = bytes(self._container.logs(timestamps=True)).decode(errors="replace").splitlines()
        return [end - _time(line.split(" ", 1)[0]) for line in stamped if line[:2].isdigit()]

    def signal(self, name: str) -> None:
        """Send a signal to process 1; fine if it has ended."""
        with suppress(docker.errors.APIError):
            self._container.kill(signal=name)

    def execute(self, *command: str) -> str | None:
        """Run a command inside; its standard output, or None where it cannot be run."""
        with suppress(docker.errors.APIError):
            code, output = self._container.exec_run(list(command), user="0", demux=True)
            if code == 0:
                return bytes(output[0] or b"").decode(errors="replace")
        return None

    def processes(self) -> list[Process]:
        """The processes inside, but those of the asking shell; empty where there is no shell."""
        lines = [line.split(" ", 3) for line in (self.execute("sh", "-c", LIST_PROCESSES) or "").splitlines()]
        found = [Process(int(pid), int(parent), name, state == "Z") for pid, parent, state, name in lines]
        ours = {one.pid for one in found if one.parent == 0 and one.pid != 1}
        return [one for one in found if one.pid not in ours and one.parent not in ours]

    def threads(self) -> list[Thread]:
        """The threads of process 1; none where there is no shell."""
        lines = [line.split(" ", 3) for line in (self.execute("sh", "-c", LIST_THREADS) or "").splitlines()]
        return [Thread(line[0], int(line[1], 16), int(line[2], 16), line[3]) for line in lines if all(line[:3])]

    def command(self) -> list[str]:
        """The words that process 1 was started with; none where they cannot be read."""
        text = self.execute("cat", "/proc/1/cmdline")
        return text.rstrip("\0").split("\0") if text else []

    def kill(self, process: Process) -> bool:
        """Kill one process inside; whether that could be done."""
        killed = self.execute("sh", "-c", f"kill -9 {process.pid}") is not None
        return killed or self.ended_within(ENDING_SECONDS)  # its end takes the shell with it

    def listeners(self) -> set[tuple[str, int]]:
        """Where TCP servers inside listen: ``all`` or ``loopback`` or ``one`` of its addresses, and the port."""
        return {one for one in map(_listener, self._listening()) if one != ("nameserver", 0)}

    def unaccepted(self) -> int:
        """How many connections to its server's port wait for a process to take them; 0 where that is not told."""
        return sum(_queue(line) for line in self._listening() if _listener(line)[1] == self.setup.port)

    def _listening(self) -> list[str]:
        """The kernel's line for each TCP socket that listens."""
        tables = [
            self.execute("cat", f"/proc/net/{table}") or self._of_this_machine(f"net/{table}") or ""
            for table in ("tcp", "tcp6")
        ]
        return [line for text in tables for line in text.splitlines()[1:] if line.split()[3:4] == ["0A"]]

    @contextmanager
    def archive(self, path: str) -> Iterator[tarfile.TarFile | None]:
        """A file or folder of it, as an archive; None if there is none."""
        with tempfile.TemporaryFile() as file:
            try:
                pieces, _ = self._container.get_archive(path)
            except docker.errors.NotFound:
                yield None
                return
            file.writelines(pieces)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                yield tar

    def text(self, path: str) -> str | None:
        """The text of a file; None if there is none."""
        with self.archive(path) as tar:
            member = None if tar is None else next((one for one in tar if one.isfile()), None)
            file = None if tar is None or member is None else tar.extractfile(member)
            return None if file is None else file.read().decode(errors="replace")

    def names(self, path: str) -> list[str]:
        """The files below a folder, by their paths in it."""
        with self.archive(path) as tar:
            return [] if tar is None else [one.name.partition("/")[2] for one in tar if not one.isdir()]

    def mode(self, path: str) -> int | None:
        """The permissions of a file, its links followed; None if there is none."""
        with self._followed(path) as (stat, _):
            return None if stat is None else int(stat["mode"])

    def start(self, path: str) -> bytes | None:
        """The first bytes of a file, its links followed; None if there is none."""
        with self._followed(path) as (stat, pieces):
            if stat is None:
                return None
            head = b""
            while len(head) < ARCHIVE_BYTES and (piece := next(pieces, b"")):
                head += piece
        with tarfile.open(fileobj=io.BytesIO(head)) as tar:
            member = tar.next()
            return b"" if member is None else head[member.offset_data :][: min(FIRST_BYTES, member.size)]

    @contextmanager
    def _followed(self, path: str) -> Iterator[tuple[dict[str, Any] | None, Iterator[bytes]]]:
        """What the engine tells of a file at the end of its links, and its archive; None without one."""
        for _ in range(MOST_LINKS):
            try:
                pieces, stat = self._container.get_archive(path)
            except docker.errors.NotFound:
                break
            with closing(pieces):
                if not stat.get("linkTarget"):
                    yield stat, pieces
                    return
            path = str(stat["linkTarget"])
        yield None, iter(())

    def _of_this_machine(self, name: str) -> str | None:
        with suppress(OSError):
            return Path("/proc", str(self.state["Pid"]), name).read_text(encoding="utf-8")
        return None


def main_processes(processes: Sequence[Process]) -> list[Process]:
    """The children of process 1, one of each name, those with the most descendants first."""
    children = [one for one in processes if one.parent == 1 and not one.is_dead]
    weight = {one.pid: sum(other.parent == one.pid for other in processes) for one in children}
    by_name: dict[str, Process] = {}
    for child in sorted(children, key=lambda one: -weight[one.pid]):
        by_name.setdefault(child.name, child)
    return list(by_name.values())


def _listener(line: str) -> tuple[str, int]:
    where, _, port = line.split()[1].partition(":")
    number = int(port, 16)
    if where == "0B00007F":  # Docker's own name server, 127.0.0.11
        return "nameserver", 0
    if not where.strip("0"):
        return "all", number
    loopback = where.endswith("7F") if len(where) == 8 else where.endswith(("01000000", "7F"))
    return ("loopback" if loopback else "one"), number


def _queue(line: str) -> int:
    return int(line.split()[4].partition(":")[2], 16)


def _time(text: str) -> float:
    """Docker's times have nanoseconds, more than Python reads."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").split("+")[0][:6] or "0"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits:0<6}+00:00").timestamp()

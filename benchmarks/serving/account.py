"""What a server uses: the processor time and memory of all its processes, counted by a cgroup or from /proc."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

TICK = os.sysconf("SC_CLK_TCK")


class Account(Protocol):
    """All processes of one server."""

    exact: bool

    def wrap(self, command: Sequence[str]) -> list[str]:
        """The command, run such that this account sees it."""

    def adopt(self, pid: int) -> None:
        """The process that the command became."""

    def cpu_seconds(self) -> float:
        """Processor time up to now, of processes that have ended as well."""

    def members(self) -> list[int]: ...

    def freeze(self, frozen: bool) -> None:
        """Stop every process, or let all go on."""

    def end(self) -> None:
        """Kill what is left."""


def open_account(name: str) -> Account:
    """A cgroup of version 2 where one can be made, else the process tree of /proc."""
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            folder = Path(place) / f"byoc-bench-{os.getpid()}-{name}"
            try:
                folder.mkdir()
            except OSError:
                break
            return Group(folder)
    return Tree()


class Group:
    """A cgroup: no child leaves it, and it counts those that have ended."""

    exact = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def wrap(self, command: Sequence[str]) -> list[str]:
        return ["sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$@"', "sh", *command]

    def adopt(self, pid: int) -> None:
        """It is there by itself."""

    def cpu_seconds(self) -> float:
        first = (self.folder / "cpu.stat").read_text(encoding="ascii").split()
        return int(first[1]) / 1e6

    def members(self) -> list[int]:
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text(encoding="ascii").split()]

    def freeze(self, frozen: bool) -> None:
        (self.folder / "cgroup.freeze").write_text("1" if frozen else "0", encoding="ascii")
        wanted = f"frozen {int(frozen)}"
        wait_for(lambda: wanted in (self.folder / "cgroup.events").read_text(encoding="ascii"), 10)

    def end(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1", encoding="ascii")
        wait_for(self.remove, 10)

    def remove(self) -> bool:
        """Whether it is gone: it stays for a moment after its last process."""
        with contextlib.suppress(OSError):
            self.folder.rmdir()
        return not self.folder.exists()


class Tree:
    """A process and its descendants; a child that ends before its parent waits for it is counted by the parent."""

    exact = False

    def __init__(self) -> None:
        self.root = 0

    def wrap(self, command: Sequence[str]) -> list[str]:
        return list(command)

    def adopt(self, pid: int) -> None:
        self.root = pid

    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.members():
            with contextlib.suppress(OSError):
                total += sum(int(value) for value in stat(pid)[11:15])
        return total / TICK

    def members(self) -> list[int]:
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    parents.setdefault(int(stat(int(entry.name))[1]), []).append(int(entry.name))
        found = [self.root] if Path(f"/proc/{self.root}").exists() else []
        for pid in found:
            found += parents.get(pid, [])
        return found

    def freeze(self, frozen: bool) -> None:
        self.send(signal.SIGSTOP if frozen else signal.SIGCONT)

    def end(self) -> None:
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def memory_megabytes(pids: Sequence[int], field: str = "Pss") -> float:
    """What these processes hold together in 10^6 bytes: a page that n of all processes share counts as 1/n (PSS).

    Of that, `Pss_Anon` is what no file backs.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith(f"{field}:")), 0)
    return total * 1024 / 1e6


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name, which may itself have spaces."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()


def wait_for(holds: Callable[[], bool], seconds: float, pause: float = 0.005) -> bool:
    """Whether it came to hold within that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
    return True

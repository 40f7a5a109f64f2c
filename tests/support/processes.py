"""What runs at this moment, read from /proc: who started whom, and who is still alive."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it."""

    pid: int
    parent: int
    state: str
    command: str


def running() -> dict[int, Process]:
    """Every process of this machine, zombies included, by id."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
            except (FileNotFoundError, ProcessLookupError):
                continue
            found[int(folder.name)] = Process(int(folder.name), int(parent), state, command)
    return found


def children(pid: int) -> list[Process]:
    """The living direct children of ``pid``."""
    return [process for process in running().values() if process.parent == pid and process.state not in "ZX"]


def descendants(pid: int) -> list[Process]:
    """Everything living below ``pid``."""
    below = children(pid)
    return below + [grandchild for child in below for grandchild in descendants(child.pid)]


def alive(pid: int) -> bool:
    """Whether a process of this id exists and is not merely waiting to be reaped."""
    process = running().get(pid)
    return process is not None and process.state not in "ZX"

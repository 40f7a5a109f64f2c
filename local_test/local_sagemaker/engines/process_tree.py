"""Which processes belong to a started one: those of its session, and its descendants that left the session."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessEntry:
    """One row of the process table."""

    pid: int
    parent: int
    session: int


def session_and_descendants(leader: int, proc: Path = PROC) -> tuple[int, ...]:
    """The living processes that the session leader ``leader`` started, without itself; empty where /proc is absent."""
    return belonging_to(leader, read_process_table(proc))


def belonging_to(leader: int, table: Iterable[ProcessEntry]) -> tuple[int, ...]:
    """Pick the entries of the leader's session and of its descendants, whichever session they are in."""
    entries = list(table)
    found = {leader} | {entry.pid for entry in entries if entry.session == leader}
    grown = True
    while grown:
        more = {entry.pid for entry in entries if entry.parent in found} - found
        found |= more
        grown = bool(more)
    return tuple(sorted(found - {leader}))


def read_process_table(proc: Path = PROC) -> list[ProcessEntry]:
    """Read /proc; processes that end meanwhile and those that are dead already are left out."""
    table = []
    for folder in proc.iterdir() if proc.is_dir() else ():
        if not folder.name.isdigit():
            continue
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue
        # The command stands in parentheses and may itself contain spaces and parentheses.
        state, parent, _group, session = text.rpartition(")")[2].split()[:4]
        if state not in "ZX":
            table.append(ProcessEntry(int(folder.name), int(parent), int(session)))
    return table

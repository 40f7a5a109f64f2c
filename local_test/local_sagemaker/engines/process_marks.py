"""The mark that a plain process carries in place of a container's labels: two variables, found again through /proc.

Children inherit it, so it outlives whoever started them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_sagemaker.engines.process_tree import PROC, ProcessEntry, belonging_to, read_process_table

NAME_VARIABLE = "BYOC_CONTAINER"
LABELS_VARIABLE = "BYOC_LABELS"
PORT_VARIABLE = "SAGEMAKER_BIND_TO_PORT"
TEMPORARY_VARIABLE = "BYOC_TEMPORARY"
# How long a process may take over becoming another program before it counts as one without an environment, in seconds.
EXEC_SECONDS = 5.0
EXEC_POLL_SECONDS = 0.001
KERNEL_THREAD = 0x00200000


@dataclass(frozen=True)
class MarkedTree:
    """The processes that stand for one container.

    Attributes:
        name: the container's.
        labels: the container's.
        port: where it listens, if it does.
        leader: the id of its first process, or of the eldest that is left.
        pids: all that live, the leader first.
        temporary: what stands for the container's /tmp.
    """

    name: str
    labels: Mapping[str, str]
    port: int | None
    leader: int
    pids: tuple[int, ...]
    temporary: Path | None = None


def mark(name: str, labels: Mapping[str, str], temporary: Path | None = None) -> dict[str, str]:
    """The variables that make a process findable, and its temporary directory, which is to go with it."""
    places = {} if temporary is None else {TEMPORARY_VARIABLE: str(temporary)}
    return {NAME_VARIABLE: name, LABELS_VARIABLE: json.dumps(dict(labels), sort_keys=True), **places}


def carries(labels: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Whether ``labels`` has all that are wanted; None stands for any value."""
    return all(key in labels and value in {None, labels[key]} for key, value in wanted.items())


def find_trees(wanted: Mapping[str, str | None], proc: Path = PROC) -> list[MarkedTree]:
    """The trees of this user that carry the wanted labels; none where /proc is absent."""
    table = read_process_table(proc)
    named: dict[str, dict[int, dict[str, str]]] = {}
    for entry in table:
        environment = _read_environment(proc / str(entry.pid))
        if LABELS_VARIABLE in environment and carries(_labels(environment), wanted):
            named.setdefault(environment.get(NAME_VARIABLE, ""), {})[entry.pid] = environment
    return [_tree(name, marked, table) for name, marked in sorted(named.items())]


def _tree(name: str, marked: Mapping[int, Mapping[str, str]], table: list[ProcessEntry]) -> MarkedTree:
    # The first process leads a session and has a parent that is not of the tree.
    roots = [e for e in table if e.pid in marked and e.parent not in marked]
    first = next((e.pid for e in roots if e.session == e.pid), min(marked))
    others = {pid for one in marked for pid in (one, *belonging_to(one, table))} - {first}
    port = marked[first].get(PORT_VARIABLE, "")
    temporary = marked[first].get(TEMPORARY_VARIABLE)
    return MarkedTree(
        name,
        _labels(marked[first]),
        int(port) if port.isdigit() else None,
        first,
        (first, *sorted(others)),
        Path(temporary) if temporary else None,
    )


def _is_amid_exec(folder: Path) -> bool:
    """Whether a process that showed no environment just became another program, or is about to have become it.

    Its new memory is there before the environment is in it: both of its ends are 0 then. They are equal, and not 0,
    where it is empty.
    """
    fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    state, flags, start, end = fields[0], int(fields[6]), int(fields[47]), int(fields[48])
    return state not in "ZX" and not flags & KERNEL_THREAD and (end == 0 or start != end)


def _labels(environment: Mapping[str, str]) -> dict[str, str]:
    try:
        labels = json.loads(environment[LABELS_VARIABLE])
    except ValueError:
        return {}
    return labels if isinstance(labels, dict) else {}


def _read_environment(folder: Path) -> dict[str, str]:
    limit = time.monotonic() + EXEC_SECONDS
    try:
        while not (data := (folder / "environ").read_bytes()) and _is_amid_exec(folder) and time.monotonic() < limit:
            time.sleep(EXEC_POLL_SECONDS)
    except OSError:  # it has ended, or it is another user's
        return {}
    pairs = (pair.partition("=") for pair in data.decode(errors="replace").split("\0"))
    return {key: value for key, _, value in pairs}

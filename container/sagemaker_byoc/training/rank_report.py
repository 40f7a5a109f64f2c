"""What a rank tells its host's launcher: the process it is, and how it failed. Files in the launcher's run directory.

A rank is one copy of the user's script in a distributed job. Its supervisor is another process than the launcher,
started by torchrun or by an MPI daemon, so files are the one way that works for all of them.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What a rank prints because another one went away: the other one is the reason then.
_CONSEQUENCE = re.compile(
    r"connection (was )?(reset|closed|refused|aborted|lost)|broken pipe|horovodinternalerror|"
    r"horovod has been shut down|"
    r"socket timeout|timed out|ncclremoteerror|ncclsystemerror|distbackenderror|distnetworkerror|diststoreerror|"
    r"recvvalue failed|peer .*(closed|gone)|remote process exited|rank.*terminated",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class RankFailure:
    """How a rank, or a whole host (rank None), failed.

    Attributes:
        time: seconds since the epoch at which its traceback began, else at which it ended.
        started: seconds since the epoch at which it was started; 0 for a host.
        reason: the text for the failure file.
        stopped: whether it ended because it was told to.
        attempt: the one of torchrun's attempts that it was part of; empty where there is but one.
    """

    host: str
    rank: int | None
    time: float
    exit_code: int
    reason: str
    started: float = 0.0
    stopped: bool = False
    attempt: str = ""

    @property
    def is_consequence(self) -> bool:
        """Whether it looks like another rank's end is behind it."""
        return self.rank is not None and (self.stopped or bool(_CONSEQUENCE.search(self.reason)))

    @property
    def described(self) -> str:
        """The reason, with the rank and host after its first line."""
        who = f"rank {self.rank} on {self.host}" if self.rank is not None else self.host
        headline, newline, rest = self.reason.partition("\n")
        return headline if who in headline else f"{headline} ({who}){newline}{rest}"

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Attempts:
    """torchrun's attempts, each host's in the order in which it saw them.

    All ranks of all hosts are started together, so an attempt is over everywhere as soon as one host has seen the next.
    A rank's own start says nothing of the others: on a busy machine one may fail before another one has started.
    """

    _seen: dict[str, list[str]] = field(default_factory=dict)

    def note(self, host: str, attempt: str) -> None:
        """A host's ranks are started; an attempt that it has had before is no news."""
        seen = self._seen.setdefault(host, [])
        if attempt not in seen:
            seen.append(attempt)

    def is_over(self, attempt: str) -> bool:
        """Whether another attempt followed this one."""
        return any(attempt in seen[:-1] for seen in self._seen.values())

    def counted(self, failures: Iterable[RankFailure]) -> list[RankFailure]:
        """The failures that no later attempt has made up for; a host's own failure is for good."""
        return [failure for failure in failures if failure.rank is None or not self.is_over(failure.attempt)]


def first_failure(failures: Iterable[RankFailure]) -> RankFailure | None:
    """The failure that began it: the earliest that is not a consequence of another one."""
    return min(failures, key=lambda failure: (failure.is_consequence, failure.time), default=None)


@dataclass(frozen=True)
class RankProcess:
    """The processes of one rank on this host: its supervisor and the leader of the script's process group.

    `attempt` is the one of torchrun's attempts that they are part of, empty where there is but one; `started` is on the
    machine's monotonic clock, in seconds.
    """

    rank: int
    supervisor: int
    script: int
    attempt: str = ""
    started: float = 0.0


def announce(directory: Path, process: RankProcess) -> None:
    """Tell the launcher that a rank runs."""
    _write(directory / f"process-{process.supervisor}.json", asdict(process))


def report_failure(directory: Path, failure: RankFailure) -> None:
    """Tell the launcher that a rank failed."""
    _write(directory / f"failure-{failure.rank}-{os.getpid()}.json", failure.document())


def read_processes(directory: Path) -> list[RankProcess]:
    """The ranks that were announced on this host, in the order of their starts."""
    found = [RankProcess(**document) for document in _read(directory, "process-*.json")]
    return sorted(found, key=lambda process: process.started)


def read_failures(directory: Path) -> list[RankFailure]:
    """The failures that ranks of this host reported."""
    return [RankFailure(**document) for document in _read(directory, "failure-*.json")]


def _write(path: Path, document: dict[str, Any]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(document), encoding="utf-8")
    unfinished.replace(path)


def _read(directory: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob(pattern))]

"""What a rank tells its host's launcher: the process it is, and how it failed. Files in the launcher's run directory.

A rank is one copy of the user's script in a distributed job. Its supervisor is another process than the launcher,
started by torchrun or by an MPI daemon, so files are the one way that works for all of them.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
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
    """

    host: str
    rank: int | None
    time: float
    exit_code: int
    reason: str
    started: float = 0.0
    stopped: bool = False

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


def first_failure(failures: Iterable[RankFailure]) -> RankFailure | None:
    """The failure that began it: the earliest that is not a consequence of another one.

    Where torchrun has started all ranks again, what failed before the last start is forgotten.
    """
    known = list(failures)
    last_start = max((failure.started for failure in known), default=0.0)
    counted = [failure for failure in known if failure.rank is None or failure.time >= last_start]
    return min(counted, key=lambda failure: (failure.is_consequence, failure.time), default=None)


@dataclass(frozen=True)
class RankProcess:
    """The processes of one rank on this host: its supervisor and the leader of the script's process group."""

    rank: int
    supervisor: int
    script: int


def announce(directory: Path, process: RankProcess) -> None:
    """Tell the launcher that a rank runs."""
    _write(directory / f"process-{process.supervisor}.json", asdict(process))


def report_failure(directory: Path, failure: RankFailure) -> None:
    """Tell the launcher that a rank failed."""
    _write(directory / f"failure-{failure.rank}-{os.getpid()}.json", failure.document())


def read_processes(directory: Path) -> list[RankProcess]:
    """The ranks that were announced on this host."""
    return [RankProcess(**document) for document in _read(directory, "process-*.json")]


def read_failures(directory: Path) -> list[RankFailure]:
    """The failures that ranks of this host reported."""
    return [RankFailure(**document) for document in _read(directory, "failure-*.json")]


def _write(path: Path, document: dict[str, Any]) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.write_text(json.dumps(document), encoding="utf-8")
    unfinished.replace(path)


def _read(directory: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob(pattern))]

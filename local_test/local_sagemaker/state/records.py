"""What is remembered of a resource: the request that made it, and its description as the API would give it now."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """The kinds of resource, by the noun of the API's operations."""

    TRAINING_JOB = "TrainingJob"
    PROCESSING_JOB = "ProcessingJob"
    TRANSFORM_JOB = "TransformJob"
    TUNING_JOB = "HyperParameterTuningJob"
    MODEL = "Model"
    ENDPOINT_CONFIG = "EndpointConfig"
    ENDPOINT = "Endpoint"

    @property
    def has_status(self) -> bool:
        """Whether resources of this kind begin, run and end; models and endpoint configurations only exist."""
        return self not in {Kind.MODEL, Kind.ENDPOINT_CONFIG}

    @property
    def is_job(self) -> bool:
        """Whether resources of this kind end by themselves."""
        return self.has_status and self is not Kind.ENDPOINT

    @property
    def status_key(self) -> str:
        """The status's name in a description, as ``TrainingJobStatus``."""
        return f"{self}Status"

    @property
    def arn_noun(self) -> str:
        """The noun in an ARN, as ``training-job``."""
        return {"HyperParameterTuningJob": "hyper-parameter-tuning-job"}.get(
            self, "".join(f"-{c.lower()}" if c.isupper() else c for c in self).lstrip("-")
        )

    @property
    def words(self) -> str:
        """The noun for people, as ``training job``."""
        return {"HyperParameterTuningJob": "hyperparameter tuning job"}.get(self, self.arn_noun.replace("-", " "))


FINAL = frozenset({"Completed", "Failed", "Stopped"})
END_TIMES = {
    Kind.TRAINING_JOB: "TrainingEndTime",
    Kind.PROCESSING_JOB: "ProcessingEndTime",
    Kind.TRANSFORM_JOB: "TransformEndTime",
    Kind.TUNING_JOB: "HyperParameterTuningEndTime",
}
START_TIMES = {
    Kind.TRAINING_JOB: "TrainingStartTime",
    Kind.PROCESSING_JOB: "ProcessingStartTime",
    Kind.TRANSFORM_JOB: "TransformStartTime",
}
FAILURE_CHARACTERS = 1024  # of the API's FailureReason
# An endpoint that failed stays, and is deleted by the user; in service it is meant to have a runner.
FINAL_OF_ENDPOINTS = frozenset({"Failed"})


@dataclass(frozen=True)
class Runner:
    """The process of this machine that runs a resource.

    Attributes:
        pid: its number, which another process may get later.
        started: when it began, in the kernel's clock ticks since boot, so that the two are told apart.
    """

    pid: int
    started: str

    @classmethod
    def here(cls) -> Runner:
        """The calling process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Runner:
        """Another process; one that has ended already is never alive."""
        return cls(pid, _start_ticks(pid) or "ended")

    @property
    def is_alive(self) -> bool:
        """Whether the very process still runs; one that only waits to be reaped does not."""
        return _start_ticks(self.pid) == self.started

    @property
    def is_halted(self) -> bool:
        """Whether it is suspended, as by Ctrl-Z or ``kill -STOP``; it does nothing then, and is alive all the same."""
        fields = _process_fields(self.pid)
        return fields is not None and fields[0] in {"T", "t"} and fields[19] == self.started


@dataclass(frozen=True)
class Record:
    """One resource.

    Attributes:
        kind: what it is.
        name: unique among its kind.
        request: the document that it was made from.
        description: what the API's Describe operation answers now; times are seconds since the epoch.
        created_at: seconds since the epoch.
        modified_at: seconds since the epoch.
        runner: the process that runs it, None before and after.
    """

    kind: Kind
    name: str
    request: dict[str, Any]
    description: dict[str, Any]
    created_at: float
    modified_at: float
    runner: Runner | None = None

    @property
    def status(self) -> str:
        """The status in the API's words; empty for what has none."""
        return str(self.description.get(self.kind.status_key, ""))

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        if not self.kind.has_status:
            return True
        return self.status in (FINAL_OF_ENDPOINTS if self.kind is Kind.ENDPOINT else FINAL)

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that ran it is gone without having tidied up, or it runs and nobody does it."""
        return not self.is_final if self.runner is None else not self.runner.is_alive


def fail(kind: Kind, description: dict[str, Any], reason: str, now: float) -> None:
    """Turn a description into that of a resource that failed; one that has ended already stays as it is."""
    if description.get(kind.status_key) not in FINAL:
        description["FailureReason"] = reason[:FAILURE_CHARACTERS]
        end(kind, description, "Failed", now)


def end(kind: Kind, description: dict[str, Any], status: str, now: float) -> None:
    """Set a final status, with the end time that the kind has, and close the last of the secondary statuses."""
    now = not_before(kind, description, now)
    description[kind.status_key] = status
    if kind in END_TIMES:
        description.setdefault(END_TIMES[kind], now)
    if "SecondaryStatus" in description:
        transitions = description.setdefault("SecondaryStatusTransitions", [])
        if transitions:
            transitions[-1].setdefault("EndTime", now)
        description["SecondaryStatus"] = status
        transitions.append({"Status": status, "StartTime": now, "EndTime": now, "StatusMessage": status})


def not_before(kind: Kind, description: Mapping[str, Any], now: float) -> float:
    """``now``, or where the clock was set back the last beginning that a description tells: nothing ends before it."""
    began: list[float] = [description.get("CreationTime", now), description.get(START_TIMES.get(kind, ""), now)]
    began += [one["StartTime"] for one in description.get("SecondaryStatusTransitions", ())[-1:]]
    return max(now, *began)


def _start_ticks(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, or None for a process that ended."""
    fields = _process_fields(pid)
    if fields is None:
        return _alive_elsewhere(pid)
    return None if fields[0] in {"Z", "X"} else fields[19]


def _process_fields(pid: int) -> list[str] | None:
    """/proc/PID/stat from the third field, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _alive_elsewhere(pid: int) -> str | None:
    """Without /proc (macOS): only whether there is a process of that number."""
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "unknown"

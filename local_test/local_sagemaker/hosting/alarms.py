"""Alarms on a variant's errors and latencies, which play CloudWatch's: an update that makes one fire is rolled back.

They lie in ``.byoc/alarms.json``, one object per name. The API's documents only name them, so the same
``AutoRollbackConfiguration`` works here and there.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from local_sagemaker.errors import UsageError
from local_sagemaker.files import write_whole
from local_sagemaker.state.workspace import Workspace

FILE = "alarms.json"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

Metric = Literal["error-rate", "latency"]
Statistic = Literal["mean", "p50", "p90", "p99"]


@dataclass(frozen=True)
class Alarm:
    """When a variant does badly.

    Attributes:
        name: as ``AutoRollbackConfiguration`` names it.
        metric: ``error-rate``, a share of the requests; or ``latency``, the container's, in milliseconds.
        above: it fires where the metric is greater.
        statistic: of the latencies.
        window_seconds: how far back requests count.
        requests: fewer than these in the window say nothing.
        variant: only this one; None for each that an update brings.
    """

    name: str
    metric: Metric
    above: float
    statistic: Statistic = "p99"
    window_seconds: float = 60.0
    requests: int = 10
    variant: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in get_args(Metric) or self.statistic not in get_args(Statistic):
            raise UsageError(
                f"alarm {self.name}: {self.metric}, {self.statistic}",
                f"expected {' or '.join(get_args(Metric))}, and one of {', '.join(get_args(Statistic))}",
                "correct it",
            )
        if self.above < 0 or self.window_seconds <= 0 or self.requests < 1:
            raise UsageError(
                f"alarm {self.name}: above {self.above}, window of {self.window_seconds} s, {self.requests} requests",
                "expected no negative limit, some seconds and at least one request",
                "correct it",
            )

    def fires(self, requests: int, errors: int, latencies_ms: Sequence[float]) -> str | None:
        """Why the alarm fires on what happened within its window, or None."""
        if requests < self.requests:
            return None
        if self.metric == "error-rate":
            rate = errors / requests
            if rate > self.above:
                return f"{errors} of {requests} requests failed ({rate:.1%}, more than {self.above:.1%})"
            return None
        if not latencies_ms:
            return None
        latency = statistic_of(latencies_ms, self.statistic)
        if latency > self.above:
            return f"the {self.statistic} latency was {latency:.1f} ms, more than {self.above:g} ms"
        return None


def statistic_of(latencies_ms: Sequence[float], statistic: Statistic) -> float:
    """The mean or a quantile (the nearest rank) of some latencies."""
    if statistic == "mean":
        return sum(latencies_ms) / len(latencies_ms)
    ordered = sorted(latencies_ms)
    return ordered[min(len(ordered) - 1, int(QUANTILES[statistic] * len(ordered)))]


@dataclass(frozen=True)
class AlarmBook:
    """All alarms of a project."""

    file: Path

    @classmethod
    def of(cls, workspace: Workspace) -> Self:
        """The project's."""
        return cls(workspace.directory / FILE)

    @property
    def names(self) -> tuple[str, ...]:
        """Of every alarm."""
        return tuple(self.alarms())

    def alarms(self) -> dict[str, Alarm]:
        """Every alarm by its name.

        Raises:
            UsageError: if the file is not what ``put`` writes.
        """
        try:
            document: Any = json.loads(self.file.read_text(encoding="utf-8"))
            return {name: Alarm(name=name, **fields) for name, fields in document.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{self.file} cannot be read: {error}", "expected one object per alarm", "correct or remove the file"
            ) from error

    def put(self, alarm: Alarm) -> None:
        """Define an alarm, or define it anew."""
        with self._locked():
            self._write({**self.alarms(), alarm.name: alarm})

    def remove(self, name: str) -> None:
        """Forget an alarm.

        Raises:
            UsageError: if there is none of the name.
        """
        alarms = self.alarms()
        if name not in alarms:
            raise UsageError(
                f"there is no alarm {name}", f"there are {', '.join(alarms) or 'none'}", "correct the name"
            )
        with self._locked():
            self._write({key: alarm for key, alarm in self.alarms().items() if key != name})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else writes between reading the file and writing it anew; a lock whose holder dies is free."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, alarms: Mapping[str, Alarm]) -> None:
        document = {
            name: {key: value for key, value in asdict(alarm).items() if key != "name"}
            for name, alarm in alarms.items()
        }
        write_whole(self.file, json.dumps(document, indent=2) + "\n")

"""What the harness knows of a server: how it is started for a workload, and how it wants to be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.workloads import Workload

MOST_ROWS = 32


@dataclass(frozen=True)
class Case:
    """One start of a server.

    `python` runs the server's program; `model` is the folder with code and weights; `work` is an empty folder for
    the server's own files; `rows` is the most instances of one batch, 0 where the model is not asked in batches;
    `window` is how long a batch may wait for more, in seconds.
    """

    workload: Workload
    python: str
    model: Path
    work: Path
    port: int
    workers: int
    rows: int
    window: float


@dataclass(frozen=True)
class Start:
    """A command and what is added to the environment."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


def as_sent(document: dict[str, Any]) -> dict[str, Any]:
    return document


def from_predictions(document: Any) -> list[Any]:
    """The predictions in the answer that most servers' programs give."""
    predictions: list[Any] = document["predictions"]
    return predictions


@dataclass(frozen=True)
class Peer:
    """A server.

    `requirements` names the file of its environment's packages, None is this Python's own; `windows` are the waits
    that are tried for its batches, none where it has no batches; `device_workers` is how many processes it is to
    have where all share one device; `wrap` and `unwrap` make its request of the common one and the predictions of its
    answer; `freezes` says whether it bears being stopped between its turns, `in_image` whether it can run in this
    project's image.
    """

    name: str
    title: str
    requirements: str | None
    start: Callable[[Case], Start]
    setting: str
    windows: Sequence[float] = ()
    device_workers: int = 1
    ready_path: str = "/ping"
    invoke_path: str = "/invocations"
    streams: bool = True
    stream_path: str | None = None
    wrap: Callable[[dict[str, Any]], dict[str, Any]] = as_sent
    unwrap: Callable[[Any], list[Any]] = from_predictions
    distributions: Sequence[str] = ()
    freezes: bool = True
    in_image: bool = True
    start_seconds: float = 90.0

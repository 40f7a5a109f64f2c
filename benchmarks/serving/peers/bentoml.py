"""BentoML: a service in worker processes, with adaptive batches."""

from __future__ import annotations

from typing import Any

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE


def start(case: Case) -> Start:
    options = ("--host", "127.0.0.1", "--port", str(case.port), "--working-dir", str(INSIDE))
    command = (case.python, "-m", "bentoml", "serve", "bentoml_app:Bench", *options)
    return Start(command, {"BENTOML_HOME": str(case.work / "home"), "BENTOML_DO_NOT_TRACK": "True"})


def unwrap(document: Any) -> list[Any]:
    """A function that takes batches answers with a list."""
    predictions: list[Any] = document if isinstance(document, list) else document["predictions"]
    return predictions


PEER = Peer(
    name="bentoml",
    title="BentoML",
    requirements="bentoml",
    start=start,
    setting="a worker a core (one for the accelerator), its access log and metrics as they are by default; "
    "batchable, max_batch_size=32 for the accelerator",
    windows=(1.0, 0.1, 60.0),
    ready_path="/readyz",
    unwrap=unwrap,
    distributions=("bentoml", "uvicorn"),
)

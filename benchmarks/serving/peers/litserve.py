"""LitServe: uvicorn processes in front of model processes, with queues of multiprocessing between them."""

from __future__ import annotations

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE


def start(case: Case) -> Start:
    return Start((case.python, str(INSIDE / "litserve_app.py")))


PEER = Peer(
    name="litserve",
    title="LitServe",
    requirements="litserve",
    start=start,
    setting="a model process a core (one for the accelerator) and as many uvicorn processes, access log; "
    "max_batch_size=32 for the accelerator; fast_queue is left off, its switch does nothing in this version",
    windows=(0.0, 0.001, 0.005),
    distributions=("litserve", "fastapi", "uvicorn"),
)

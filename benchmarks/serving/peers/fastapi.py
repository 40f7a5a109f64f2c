"""Plain FastAPI on uvicorn: no metrics, no batches, nothing in front."""

from __future__ import annotations

from benchmarks.serving.peer import Case, Peer, Start


def start(case: Case) -> Start:
    options = ("--host", "127.0.0.1", "--port", str(case.port), "--workers", str(case.workers))
    return Start((case.python, "-m", "uvicorn", "fastapi_app:app", *options))


PEER = Peer(
    name="fastapi",
    title="FastAPI + uvicorn",
    requirements="fastapi",
    start=start,
    setting="uvicorn[standard] (uvloop, httptools), a worker a core, pydantic models, access log; async functions, "
    "threads for the accelerator; it has no metrics and no batches",
    distributions=("fastapi", "uvicorn", "uvloop"),
)

"""`serve` of this project, in both lanes, with nginx in front."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE

CONTAINER = Path(__file__).resolve().parents[3] / "container"
TORCH = ("cnn", "transformer", "large")
COMPUTES = ("cnn", "transformer")
DISTRIBUTIONS = ("gunicorn", "gunicorn_h1c", "flask", "uvloop")


def start(lane: str, case: Case) -> Start:
    base = lay_out(case)
    environ = {
        "PYTHONPATH": str(CONTAINER),
        "SAGEMAKER_BASE_DIR": str(base),
        "BYOC_IMAGE_CODE_DIR": str(base / "none"),
        "SAGEMAKER_BIND_TO_PORT": str(case.port),
        "BYOC_BIND_HOST": "127.0.0.1",
        **settings(lane, case),
    }
    return Start((case.python, str(CONTAINER / "sagemaker_byoc" / "serve")), environ)


def settings(lane: str, case: Case) -> dict[str, str]:
    """What a user would set for this case."""
    chosen = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(case.workers), "BYOC_LANE": lane}
    if case.rows:
        # A thread for each request of the batch that runs and of the one that forms.
        chosen |= {"BYOC_BATCH_MAX_ROWS": str(case.rows), "BYOC_THREADS": str(2 * case.rows)}
    if case.workload.streams or case.workload.accelerator:
        # Threads wait here rather than compute, and more callers may wait than the default allows.
        chosen |= {"BYOC_THREADS": "64", "BYOC_QUEUE_LIMIT": "256"}
    elif max(case.workload.connections, default=1) > 64:
        chosen["BYOC_QUEUE_LIMIT"] = "256"
    if case.workload.name in COMPUTES:
        chosen["BYOC_THREADS"] = "1"  # one request at a time has a worker's core, as in the other servers' processes
    return chosen


def lay_out(case: Case) -> Path:
    """A tree as /opt/ml, with the model and inference.py beside it."""
    base = case.work / "ml"
    for folder in ("input/config", "input/data", "output", "code"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    model = base / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(case.model, model, copy_function=link)
    (model / "code").mkdir()
    program = "inference_torch.py" if case.workload.name in TORCH else "inference.py"
    for file in (INSIDE / "models.py", INSIDE / "ours" / "handlers.py"):
        shutil.copy(file, model / "code")
    shutil.copy(INSIDE / "ours" / program, model / "code" / "inference.py")
    return base


def link(source: str, target: str) -> None:
    """Weights are large: the same file by another name."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy(source, target)


WSGI = Peer(
    name="ours-wsgi",
    title="ours, Flask lane",
    requirements=None,
    start=partial(start, "wsgi"),
    setting="nginx; a gthread worker a core; access log as JSON lines; for the networks BYOC_THREADS=1, so that a "
    "worker computes one answer at a time as the other servers' processes do; for the accelerator one worker, "
    "BYOC_BATCH_MAX_ROWS=32",
    windows=(0.0,),
    distributions=DISTRIBUTIONS,
)
ASGI = Peer(
    name="ours-asgi",
    title="ours, ASGI lane",
    requirements=None,
    start=partial(start, "asgi"),
    setting="as the Flask lane, with BYOC_LANE=asgi",
    windows=(0.0,),
    distributions=DISTRIBUTIONS,
)

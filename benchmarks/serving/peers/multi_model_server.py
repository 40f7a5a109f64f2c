"""AWS's multi-model-server: a Java front with Python workers, started by sagemaker-inference as in AWS's images."""

from __future__ import annotations

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE


def start(case: Case) -> Start:
    base = case.work / "ml"
    for folder in ("model/code", "input/config", "output"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (case.work / "tmp").mkdir(exist_ok=True)
    environ = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_BIND_TO_PORT": str(case.port),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(case.workers),
        "TEMP": str(case.work / "tmp"),
        "LOG_LOCATION": str(case.work / "logs"),
        "METRICS_LOCATION": str(case.work / "logs"),
    }
    return Start((case.python, str(INSIDE / "mms_app.py"), str(case.work / "mms.properties")), environ)


PEER = Peer(
    name="mms",
    title="multi-model-server",
    requirements="multi-model-server",
    start=start,
    setting="started by sagemaker-inference as in AWS's images, a worker a core, its access log and metrics; "
    "no streams; sagemaker-inference offers no batches",
    streams=False,
    in_image=False,  # there is no Java in it
    distributions=("multi-model-server", "sagemaker-inference"),
)

"""Ray Serve on one machine: replicas behind its proxy."""

from __future__ import annotations

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE


def start(case: Case) -> Start:
    environ = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    return Start((case.python, str(INSIDE / "ray_app.py")), environ)


PEER = Peer(
    name="ray",
    title="Ray Serve",
    requirements="ray",
    start=start,
    setting="a replica a core (one for the accelerator), HAProxy in front and the throughput settings of its manual, "
    "access log and metrics as by default, no dashboard; @serve.batch of 32 for the accelerator",
    windows=(0.01, 0.005, 0.02),
    distributions=("ray",),
)

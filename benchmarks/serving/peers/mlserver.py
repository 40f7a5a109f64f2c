"""MLServer: the V2 inference protocol, model processes behind an event loop, batches."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.server import free_port


def start(case: Case) -> Start:
    parallel = 0 if case.workload.streams or case.workload.accelerator else case.workers
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "http_port": case.port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "metrics_dir": str(case.work / "metrics"),
        "environments_dir": str(case.work / "environments"),
        "parallel_workers": parallel,
    }
    if case.workload.streams:  # its manual: streams want neither processes, nor compression, nor metrics
        settings |= {"gzip_enabled": False, "metrics_endpoint": None}
    model: dict[str, Any] = {"name": "bench", "implementation": "mlserver_app.Bench"}
    if case.rows:
        model |= {"max_batch_size": case.rows, "max_batch_time": case.window}
    (case.work / "metrics").mkdir(exist_ok=True)
    (case.work / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (case.work / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return Start((case.python, "-c", "from mlserver.cli import main; main()", "start", str(case.work)))


def wrap(document: dict[str, Any]) -> dict[str, Any]:
    """The same numbers in the V2 protocol."""
    (instance,) = document["instances"]
    if isinstance(instance, str):
        return {"inputs": [{"name": "instances", "shape": [1, 1], "datatype": "BYTES", "data": [instance]}]}
    kind = "INT64" if all(isinstance(value, int) for value in instance) else "FP32"
    return {"inputs": [{"name": "instances", "shape": [1, len(instance)], "datatype": kind, "data": instance}]}


def unwrap(document: Any) -> list[Any]:
    """A list of numbers, or a list of rows."""
    output = document["outputs"][0]
    values, shape = output["data"], output["shape"]
    if len(shape) < 2 or shape[1] == 1:
        return list(values)
    width = shape[1]
    return [values[place : place + width] for place in range(0, len(values), width)]


PEER = Peer(
    name="mlserver",
    title="MLServer",
    requirements="mlserver",
    start=start,
    setting="V2 protocol; a process of its pool a core; none, as its manual wants it for streams and light models, for "
    "streams and the accelerator; access log and metrics as by default; max_batch_size=32 for the accelerator; "
    "uvloop below 0.22, with which its pool starts",
    windows=(0.005, 0.001, 0.01),
    ready_path="/v2/models/bench/ready",
    invoke_path="/v2/models/bench/infer",
    stream_path="/v2/models/bench/generate_stream",
    wrap=wrap,
    unwrap=unwrap,
    distributions=("mlserver", "uvicorn", "uvloop"),
)

"""The benchmark's handlers in this image's `serve`: the same model code as in all other servers."""

import json
import os
from pathlib import Path
from typing import Any

import models

WORKLOAD = os.environ["BENCH_WORKLOAD"]
print("bench: imported", flush=True)


def model_fn(model_dir: str) -> models.Predict:
    if WORKLOAD in ("cnn", "transformer", "large"):
        import torch  # noqa: F401, PLC0415 - the model imports it; here, so that the log tells how long that took

        print("bench: torch", flush=True)
    model = models.load(WORKLOAD, Path(model_dir))
    print("bench: loaded", flush=True)
    return model


def input_fn(body: bytes | str, _content_type: str) -> list[Any]:
    instances: list[Any] = json.loads(body)["instances"]
    return instances


def predict_fn(instances: list[Any], model: models.Predict) -> Any:
    return models.stream() if WORKLOAD == "stream" else model(instances)


def output_fn(predictions: Any, accept: str) -> Any:
    if not isinstance(predictions, list):
        return predictions, "text/plain"
    return json.dumps({"predictions": predictions}), accept

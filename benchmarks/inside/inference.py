"""A model that takes BENCH_LOAD_SECONDS to load and answers with the id of the process that holds it."""

import os
import time
from typing import Any


def model_fn(model_dir: str) -> str:
    time.sleep(float(os.environ["BENCH_LOAD_SECONDS"]))
    return model_dir


def predict_fn(_data: Any, _model: str) -> list[int]:
    return [os.getpid()]

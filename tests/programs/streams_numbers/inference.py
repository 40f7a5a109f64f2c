"""Yields, and waits for the test before the second piece."""

import os
import time
from pathlib import Path


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    for number in range(data["count"]):
        if number == 1:
            deadline = time.monotonic() + 60
            while data.get("gate") and not Path(os.environ["TEST_GATE"]).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        if number == data.get("fails_at"):
            raise RuntimeError("no more")
        yield {"number": number} if data.get("objects", True) else f"piece {number}\n"
    print("the stream is over", flush=True)

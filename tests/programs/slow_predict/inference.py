"""Predict until the test opens the gate."""

import os
import time
from pathlib import Path


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    print("predicting", flush=True)
    deadline = time.monotonic() + 60
    while not Path(os.environ["TEST_GATE"]).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return data

"""Be killed while the model loads, as often as there is a file that says so."""

import os
import signal
from pathlib import Path


def model_fn(model_dir):
    if Path(os.environ["TEST_GATE"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "loaded"


def predict_fn(data, model):
    return [model, os.getpid()]

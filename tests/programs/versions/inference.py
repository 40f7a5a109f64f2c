"""Says which version of the model it loaded, and in which process; a broken version cannot be loaded."""

import os
import time
from pathlib import Path


def model_fn(model_dir):
    version = (Path(os.environ["TEST_FOLDER"]) / "version").read_text()
    if version == "broken":
        raise RuntimeError("this version cannot be loaded")
    time.sleep(0.3)
    return version


def predict_fn(data, model):
    time.sleep(data.get("seconds", 0))
    return {"version": model, "pid": os.getpid()}

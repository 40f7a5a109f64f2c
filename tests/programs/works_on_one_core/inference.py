"""Each worker answers one request at a time, for as long as the request says."""

import os
import threading
import time

LOCK = threading.Lock()


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    with LOCK:
        time.sleep(data["seconds"])
    return os.getpid()

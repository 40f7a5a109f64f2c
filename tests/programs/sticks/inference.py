"""Some requests never come back: in a lock, or holding Python's own lock."""

import os
import re
import threading
import time


def model_fn(model_dir):
    return threading.Lock()


def predict_fn(data, model):
    if data == "lock":
        print("predicting", flush=True)
        time.sleep(3600)
    if data == "python":
        print("predicting", flush=True)
        re.match(r"(a+)+$", "a" * 64 + "b")
    return os.getpid()

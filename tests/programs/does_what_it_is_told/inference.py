"""Answer in each of the ways there are; the request says which."""

import os
import time
from pathlib import Path


def model_fn(model_dir):
    return None


def predict_fn(data, model, context):
    do = data.get("do") if isinstance(data, dict) else None
    if do == "raise":
        raise RuntimeError("as the caller asked for")
    if do == "teapot":
        error = ValueError("short and stout")
        error.status_code = 418
        raise error
    if do == "attributes":
        context.set_custom_attributes(f"you said {context.custom_attributes}")
        context.set_header("X-Model", "told")
    if do == "stream":
        return pieces(data["pieces"])
    if do == "sleep":
        time.sleep(data["seconds"])
    if do == "wait":
        print("predicting", flush=True)
        wait_for_gate()
    return data


def pieces(count):
    try:
        for piece in range(count):
            if piece == 1 and "TEST_GATE" in os.environ:
                wait_for_gate()
            yield {"piece": piece}
            time.sleep(0.01)
    finally:
        print("the stream is over", flush=True)


def wait_for_gate():
    deadline = time.monotonic() + 60
    while not Path(os.environ["TEST_GATE"]).exists() and time.monotonic() < deadline:
        time.sleep(0.01)

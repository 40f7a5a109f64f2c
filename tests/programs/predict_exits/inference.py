"""Die while predicting, as native code does."""

import os


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    if data == "die":
        os._exit(9)
    return os.getpid()

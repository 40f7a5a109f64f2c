"""Die while loading, as native code does."""

import os


def model_fn(model_dir):
    os._exit(7)


def predict_fn(data, model):
    return data

"""Call sys.exit while predicting."""

import sys


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    if data == "exit":
        sys.exit("enough")
    return data

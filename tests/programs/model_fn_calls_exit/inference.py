"""Give up politely while loading."""

import sys


def model_fn(model_dir):
    sys.exit("no licence for this model")


def predict_fn(data, model):
    return data

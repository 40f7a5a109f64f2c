"""Return from output_fn what it is asked for."""

import numpy as np
from flask import Response


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    return data


def output_fn(asked, accept):
    return {
        "a value": {"a": np.array([1.0, 2.0])},
        "an array and its type": (np.array([1, 2]), "text/csv"),
        "a response": Response("<made>", status=201, mimetype="text/x-own"),
        "nothing": None,
        "a value in a type of its own": ({"a": 1}, "text/x-own"),
    }[asked]

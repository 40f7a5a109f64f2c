"""Fail while reading the body."""


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    raise KeyError("instances")


def predict_fn(data, model):
    return data

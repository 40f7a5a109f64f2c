"""Fail while predicting, with a path and a secret in the way."""


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    raise ZeroDivisionError("the batch has no rows")

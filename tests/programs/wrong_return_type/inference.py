"""Predict something no format can hold."""


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    return object()

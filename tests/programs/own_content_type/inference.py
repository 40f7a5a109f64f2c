"""Formats of one's own, in and out."""


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    if content_type.split(";")[0] != "application/x-reversed":
        raise ValueError(f"cannot read {content_type}")
    return body[::-1]


def predict_fn(data, model):
    return data


def output_fn(prediction, accept):
    return prediction, "application/x-reversed"

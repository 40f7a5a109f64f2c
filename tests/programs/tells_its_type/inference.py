"""Read bodies of any type, and tell what came."""


def input_fn(body, content_type):
    return [content_type, type(body).__name__, len(body)]


def predict_fn(data, model):
    return data


def model_fn(model_dir):
    return None

"""Do everything in one function."""


def model_fn(model_dir):
    return "shout"


def transform_fn(model, body, content_type, accept):
    text = body.decode() if isinstance(body, bytes) else body
    return f"{model}:{text.upper()}", "text/plain"

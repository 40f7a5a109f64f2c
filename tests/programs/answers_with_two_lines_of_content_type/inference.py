"""Let the caller choose the content type, line breaks included."""


def model_fn(model_dir):
    return None


def transform_fn(model, body, content_type, accept):
    return b"body", body.decode().replace("|", "\r\n")

"""Every function takes the extra context."""


def model_fn(model_dir, context):
    return type(context).__name__


def input_fn(body, content_type, context):
    return body if isinstance(body, str) else body.decode()


def predict_fn(data, model, context):
    return {"data": data, "context": model, "same": type(context).__name__}


def output_fn(prediction, accept, context):
    import json

    return json.dumps(prediction), "application/json"

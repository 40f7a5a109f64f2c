"""Answer what was sent."""


def model_fn(model_dir):
    return {"model_dir": model_dir}


def predict_fn(data, model):
    return data

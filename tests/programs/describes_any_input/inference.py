"""Say what kind of thing predict_fn was given, whatever it is."""


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    return {"type": type(data).__name__}

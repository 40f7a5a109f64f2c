"""Ask for more memory than any machine has."""


def model_fn(model_dir):
    return bytearray(1 << 62)


def predict_fn(data, model):
    return data

"""Takes all the memory there is where the request says so."""


def model_fn(model_dir):
    return []


def predict_fn(data, model):
    while data == "fill":
        model.append(bytearray(b"x" * 2**24))
    return data

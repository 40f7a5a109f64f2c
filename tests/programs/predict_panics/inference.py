"""Predict with a library written in Rust that panics, which is no Exception."""


class PanicException(BaseException):
    pass


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    if data == "exit":
        raise PanicException("an index out of range")
    return data

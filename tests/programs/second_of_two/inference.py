"""Use helper modules whose names another model's helpers have too, one of them through a pickle."""

import pickle

from network import WHO


def model_fn(model_dir):
    return pickle.loads(b"cnetwork\nNetwork\n.")()


def predict_fn(data, model):
    from late import WHO as LATE_WHO

    return [model.who, WHO, LATE_WHO, *data]

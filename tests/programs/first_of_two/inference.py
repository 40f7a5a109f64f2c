"""Use helper modules whose names another model's helpers have too."""

import network


def model_fn(model_dir):
    return network.Network()


def predict_fn(data, model):
    import late  # not imported before the first request

    return [model.who, network.WHO, late.WHO, *data]

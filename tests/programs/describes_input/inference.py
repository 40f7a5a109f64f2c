"""Say what predict_fn was given."""

import numpy


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    if isinstance(data, numpy.ndarray):
        return {"type": "ndarray", "dtype": str(data.dtype), "shape": list(data.shape)}
    return {"type": type(data).__name__, "length": len(data)}

"""Import modules of one's own that have the names of ours."""

import predictor
import training


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    return [predictor.OWNER, training.OWNER]

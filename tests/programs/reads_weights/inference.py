"""Load a file of the model, as models do."""

import json
from pathlib import Path


def model_fn(model_dir):
    return json.loads(Path(model_dir, "weights.json").read_text())


def predict_fn(data, model):
    return [value * model["factor"] for value in data]

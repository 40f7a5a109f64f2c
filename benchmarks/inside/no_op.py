"""A model of no cost: the first number of the first instance is the answer."""

from typing import Any


def model_fn(model_dir: str) -> str:
    return model_dir


def predict_fn(data: Any, _model: str) -> list[Any]:
    return [data["instances"][0][0]] if isinstance(data, dict) else [data[0][0]]

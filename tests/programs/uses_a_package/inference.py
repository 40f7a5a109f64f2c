"""Needs a package that no image has: the requirements.txt beside it names it."""

from typing import Any

import tiny


def model_fn(model_dir: str) -> int:
    value: int = tiny.VALUE
    return value


def predict_fn(data: Any, model: int) -> list[Any]:
    return [model, data]

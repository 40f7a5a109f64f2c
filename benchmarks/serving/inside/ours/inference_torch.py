"""The program of a model of PyTorch, which such programs import at their top."""

import torch
from handlers import input_fn, model_fn, output_fn, predict_fn

__all__ = ["input_fn", "model_fn", "output_fn", "predict_fn", "torch"]

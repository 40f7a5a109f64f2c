"""Answer requests with the trained network. This file is yours: change anything.

The four functions are called in the order in which they stand here, the first one once. Leave one out and the
container does what is usual. Training copies this file into model/code, so that it travels with the weights.
"""

import json
from pathlib import Path

import numpy as np
import torch
from network import DigitNet
from sagemaker_byoc import decode, encode


def model_fn(model_dir: str) -> DigitNet:
    """Build the network and load its weights."""
    torch.set_num_threads(1)  # each server worker answers on its own core; more threads would fight for them
    folder = Path(model_dir)
    model = DigitNet(**json.loads((folder / "model.json").read_text()))
    model.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    return model.eval()


def input_fn(body: bytes | str, content_type: str) -> torch.Tensor:
    """JSON, CSV or NPY: images of shape (n, 8, 8) or (n, 64), values in 0..1. A ValueError is answered with 400."""
    try:
        images = np.asarray(decode(body, content_type), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected the numbers of images as one array: {error}") from error
    if images.size == 0 or (images.shape[-1:] != (64,) and images.shape[-2:] != (8, 8)):
        raise ValueError(f"expected images of shape (n, 8, 8) or (n, 64), got {images.shape}")
    return torch.from_numpy(images.reshape(-1, 1, 8, 8))


def predict_fn(images: torch.Tensor, model: DigitNet) -> torch.Tensor:
    """The probability of each digit, one row of ten for each image."""
    with torch.inference_mode():
        probabilities: torch.Tensor = model(images).softmax(1)
    return probabilities


def output_fn(probabilities: torch.Tensor, accept: str) -> tuple[bytes, str]:
    """The answer in the form that the caller accepts, and that form's content type."""
    answer: tuple[bytes, str] = encode(probabilities, accept)
    return answer

"""Leave everything but the model to the container, as in AWS's images for PyTorch."""

import torch


def model_fn(model_dir):
    linear = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    return torch.nn.Sequential(linear, torch.nn.Dropout(0.9))

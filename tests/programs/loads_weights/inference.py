"""A large network whose weights stay in their file."""

import os

import torch
from sagemaker_byoc import assign_weights, load_weights


def network():
    return torch.nn.Sequential(*[torch.nn.Linear(2048, 2048) for _ in range(12)])


def model_fn(model_dir):
    with torch.device("meta"):
        model = network()
    model = assign_weights(model, load_weights(os.path.join(model_dir, "model.safetensors")))
    with torch.inference_mode():
        model(torch.zeros(1, 2048))
    return model


def predict_fn(data, model):
    with torch.inference_mode():
        return {"pid": os.getpid(), "answer": model(torch.full((1, 2048), float(data[0])))[0, :2]}

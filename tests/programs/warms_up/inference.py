"""A module of PyTorch that is called once before any request."""

import torch


def model_fn(model_dir):
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data.fill_(2.0)
    return model.eval()


def model_warmup_fn(model_dir, model):
    with torch.inference_mode():
        model(torch.zeros(1, 3))


def predict_fn(data, model):
    with torch.inference_mode():
        answer = model(torch.tensor(data, dtype=torch.float32))
    return {"answer": answer, "compiled": model._compiled_call_impl is not None}

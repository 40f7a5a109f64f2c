"""Tells which device its worker was given."""

import os


def predict_fn(data, model, context):
    return {"device": context.device, "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}

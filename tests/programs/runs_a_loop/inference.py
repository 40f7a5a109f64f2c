"""Call asyncio.run in a plain function, as code does that asks others asynchronously."""

import asyncio


def model_fn(model_dir):
    return 1


async def add(data, model):
    await asyncio.sleep(0)
    return data + model


def predict_fn(data, model):
    return asyncio.run(add(data, model))

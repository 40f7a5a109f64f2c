"""Ask for the current event loop, as scripts do that were written for a process with one thread."""

import asyncio

LOOP = asyncio.get_event_loop()


async def add(data, model):
    await asyncio.sleep(0)
    return data + model


def model_fn(model_dir):
    return LOOP.run_until_complete(add(1, 0))


def predict_fn(data, model):
    return asyncio.get_event_loop().run_until_complete(add(data, model))

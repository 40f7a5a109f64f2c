"""Functions that wait for others; what to do stands in the request."""

import asyncio
import os
from pathlib import Path


def model_fn(model_dir):
    return 2


async def input_fn(body, content_type):
    await asyncio.sleep(0)
    return body.decode()


async def predict_fn(data, model, context):
    if data == "fail":
        raise RuntimeError("as the caller asked for")
    if data == "wait":
        print("predicting", flush=True)
        try:
            while not Path(os.environ["TEST_GATE"]).exists():
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            print("nobody waits any more", flush=True)
            raise
    if data.startswith("stream"):
        return count(int(data.split()[1]))
    context.set_custom_attributes("seen")
    return data * model


async def count(pieces):
    try:
        for piece in range(pieces):
            yield f"piece {piece}\n"
            if piece:
                await asyncio.sleep(0.01)
    finally:
        print("the stream is over", flush=True)


async def output_fn(prediction, accept):
    await asyncio.sleep(0)
    return prediction, "text/plain"

"""Yield to whoever listens: an async generator needs no call to send anything."""


def model_fn(model_dir):
    return 3


async def bidirectional_stream_fn(stream, model):
    async for message in stream:
        for number in range(model, 0, -1):
            yield f"{message} {number}"

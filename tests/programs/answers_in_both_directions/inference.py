"""Answer each message of a stream with itself; a few words have a meaning."""

import asyncio


def model_fn(model_dir):
    return {"greeting": "hello"}


def predict_fn(data, model):
    return data


async def bidirectional_stream_fn(stream, model, context):
    try:
        async for message in stream:
            if message == "who?":
                await stream.send(f"{model['greeting']} {stream.path} {stream.query_string} {context.inference_id}")
            elif message == "fail":
                raise RuntimeError("as the caller asked for")
            elif message == "finish":
                return
            elif message == "count":
                for number in range(100):
                    await stream.send(f"{number}")
            elif message == "work":
                print("working", flush=True)
                await asyncio.sleep(60)
            else:
                await stream.send(message)
        print("the caller's side has ended", flush=True)
        await stream.send("last words")
    finally:
        print("the function has ended", flush=True)

"""An ASGI application without a framework: its model is loaded at start-up, and its /ping knows."""

import asyncio
import json
import os
from pathlib import Path

STATE = {}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        STATE["model"] = "loaded"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("shut down", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    status = 200
    if scope["path"] == "/ping":
        status = 200 if Path(os.environ["TEST_GATE"]).exists() else 500
    await asyncio.sleep(0)
    answer = json.dumps({"path": scope["path"], "model": STATE.get("model"), "bytes": len(body)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})

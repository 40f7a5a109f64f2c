"""A model behind Ray Serve."""

import asyncio
import os
import signal
import tempfile
import threading
from typing import Any

import asked
import models
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

CASE = asked.read()


@serve.deployment(num_replicas=CASE.workers, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Bench:
    """Answers every path: /ping, and all others by the model."""

    def __init__(self) -> None:
        self.model = models.load(CASE.workload, CASE.folder)

    @serve.batch(max_batch_size=max(1, CASE.rows), batch_wait_timeout_s=CASE.window)
    async def together(self, instances: list[Any]) -> list[Any]:
        return await asyncio.to_thread(self.model, instances)

    async def __call__(self, request: Request) -> Response:
        if request.url.path == "/ping":
            return PlainTextResponse("")
        instances = (await request.json())["instances"]
        if CASE.streams:
            return StreamingResponse(models.stream(), media_type="text/plain")
        predictions = [await self.together(instances[0])] if CASE.rows else self.model(instances)
        return JSONResponse({"predictions": predictions})


def main() -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="ray-", dir=os.environ.get("TMPDIR")) as work:
        ray.init(num_cpus=4, include_dashboard=False, _temp_dir=work, log_to_driver=False)
        serve.start(http_options={"host": "127.0.0.1", "port": CASE.port})
        serve.run(Bench.bind())
        stop.wait()
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()

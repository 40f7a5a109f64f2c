"""gunicorn's worker with an event loop, as this image changes it."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from gunicorn.asgi.websocket import WebSocketProtocol
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn_h1c import H1CProtocol
from sagemaker_byoc.serving.loop_worker import Connection, LoopWorker, Socket


@pytest.fixture
def worker() -> Iterator[LoopWorker]:
    """A worker that has not begun to serve."""
    cfg = Config()
    worker = LoopWorker(1, os.getpid(), [], None, 30, cfg, Logger(cfg))
    worker.asgi = None
    yield worker
    worker.tmp.close()


def test_requests_are_parsed_in_c(worker: LoopWorker) -> None:
    """Goal 1: gunicorn's own choice falls back to Python for a subclass of its protocol."""

    async def parser() -> object:
        worker.loop = asyncio.get_running_loop()
        server = await worker.loop.create_server(lambda: connection, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not worker.connections:  # noqa: ASYNC110 - it is no event of ours
            await asyncio.sleep(0)
        chosen = connection._callback_parser
        writer.close()
        server.close()
        return chosen

    connection = Connection(worker)
    assert isinstance(asyncio.run(parser()), H1CProtocol)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 1000, 65_537])
def test_a_mask_is_taken_off_as_gunicorn_does(size: int) -> None:
    """15.20."""
    payload, key = os.urandom(size), os.urandom(4)
    theirs, ours = object.__new__(WebSocketProtocol), object.__new__(Socket)
    assert ours._unmask(payload, key) == theirs._unmask(payload, key)

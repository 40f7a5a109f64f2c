"""The rest of a container's log, where the connection that it came by has broken: the engine was started again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import docker.errors
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from local_sagemaker.engines.base import Chunk

Stream = Literal["stdout", "stderr"]
# What the engine's client raises when the engine goes away in the middle of an answer.
BROKEN = (docker.errors.DockerException, RequestException, HTTPError, OSError)
# An engine that is started again is back by then.
ENGINE_SECONDS = 30.0
ENGINE_PAUSE_SECONDS = 0.5


def rest_of_log(container: Any, seen: Mapping[Stream, int], ended: threading.Event) -> Iterator[Chunk]:
    """Yield what the engine has kept, and what still comes, until the container ends.

    Args:
        container: whose log it is.
        seen: how many bytes of each stream came before.
        ended: says that the container has ended.
    """
    chunks: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
    for stream, count in seen.items():
        follow = (container, stream, count, ended, chunks.put)
        threading.Thread(target=_follow, args=follow, name=f"{stream}-{container.name}", daemon=True).start()
    for _ in seen:
        while (chunk := chunks.get()) is not None:
            yield chunk


def _follow(
    container: Any, stream: Stream, seen: int, ended: threading.Event, put: Callable[[Chunk | None], None]
) -> None:
    limit: float | None = None
    try:
        while True:
            is_over = ended.is_set()  # asked first, so that what is read then is all
            try:
                read = 0
                wanted = {"stdout": stream == "stdout", "stderr": stream == "stderr"}
                for data in container.logs(**wanted, stream=True, follow=True):
                    limit = None
                    read += len(data)
                    if read > seen:
                        put(Chunk(stream, data[-(read - seen) :]))
                        seen = read
                if is_over:
                    return
            except docker.errors.NotFound:  # it was removed
                return
            except BROKEN:
                limit = limit or time.monotonic() + ENGINE_SECONDS
                if time.monotonic() > limit:
                    return
            ended.wait(ENGINE_PAUSE_SECONDS)
    finally:
        put(None)

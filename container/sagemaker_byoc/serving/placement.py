"""Where plain functions run for an event loop: on it while they are quick, else in threads, so that it can go on.

On the loop nothing is handed over, which is what makes it worth having: a thread costs more than a small model. But a
function that takes long there stops everybody. So the mean time of the last requests decides, and the first ones run in
threads; so do those that make pieces of a stream, which may wait for each.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Self

from sagemaker_byoc.serving.exchange import Answer, AsyncAnswer, Request

SLOW_SECONDS = 0.005  # a mean above this runs in threads; measured: handing over costs 30 to 100 µs
_OF_THE_LAST = 16
_AHEAD = 8  # pieces of a stream that may be made before the first of them is sent


class Placement:
    """One worker's choice, and its threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._mean = 2 * SLOW_SECONDS

    @property
    def is_quick(self) -> bool:
        """Whether the next request runs on the loop."""
        return self._mean < SLOW_SECONDS

    def expect_slow(self) -> None:
        """What comes is known to take its time."""
        self._mean = max(self._mean, 1.0)

    def took(self, seconds: float) -> None:
        """A request has run for so long."""
        self._mean += (seconds - self._mean) / _OF_THE_LAST

    def run_here(self, invoke: Callable[[Request], Answer], request: Request) -> Answer:
        """On the loop. A plain function does not see it, so that it may run one of its own there as in a thread."""
        started = time.perf_counter()
        loop = asyncio._get_running_loop()  # noqa: SLF001 - loops of one's own are what both are there for
        asyncio._set_running_loop(None)  # noqa: SLF001
        try:
            answer = invoke(request)
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001
            self.took(time.perf_counter() - started)
        if not isinstance(answer.body, bytes):
            self.expect_slow()
        return answer

    async def run_in_thread(self, invoke: Callable[[Request], Answer], request: Request) -> Answer | AsyncAnswer:
        """In a thread, which also makes the pieces of a stream."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[Answer | AsyncAnswer] = loop.create_future()
        self._pool.submit(self._work, invoke, request, loop, made)
        return await made

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, "model")

    def _work(
        self,
        invoke: Callable[[Request], Answer],
        request: Request,
        loop: asyncio.AbstractEventLoop,
        made: "asyncio.Future[Answer | AsyncAnswer]",
    ) -> None:
        started = time.perf_counter()
        try:
            answer = invoke(request)
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
            _tell(loop, _fail, made, error)
            return
        if isinstance(answer.body, bytes):
            # By the loop, whose only it is.
            _tell(loop, self.took, time.perf_counter() - started)
            _tell(loop, _finish, made, answer)
            return
        feed = Feed(loop)
        _tell(loop, _finish, made, AsyncAnswer(feed, answer.content_type, answer.status, answer.headers))
        feed.fill(answer.body, made)


class Feed:
    """Pieces that a thread makes and an event loop sends; the thread is a few ahead at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._made: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        self._room = threading.Semaphore(_AHEAD)
        self._is_over = False

    def fill(self, pieces: Iterable[bytes], made: "asyncio.Future[Answer | AsyncAnswer] | None" = None) -> None:
        """In the thread: make all the pieces, or as many as somebody wants."""
        last: BaseException | None = None
        try:
            for piece in pieces:
                self._room.acquire()
                if self._is_over or (made is not None and made.cancelled()):
                    break
                _tell(self._loop, self._made.put_nowait, piece)
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 - it is raised where the pieces are awaited
            last = error
        _tell(self._loop, self._made.put_nowait, last)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises what making it raised."""
        piece = await self._made.get()
        self._room.release()
        if isinstance(piece, bytes):
            return piece
        raise piece or StopAsyncIteration

    async def aclose(self) -> None:
        """Nobody wants more: the thread closes its iterator when it has made the piece that it is making."""
        self._is_over = True
        self._room.release()


def from_thread(pieces: Iterable[bytes]) -> Feed:
    """The pieces of a plain iterator, made in a thread of their own."""
    feed = Feed(asyncio.get_running_loop())
    threading.Thread(target=feed.fill, args=(pieces,), name="stream", daemon=True).start()
    return feed


def _finish(made: "asyncio.Future[Answer | AsyncAnswer]", answer: Answer | AsyncAnswer) -> None:
    if not made.done():
        made.set_result(answer)


def _fail(made: "asyncio.Future[Answer | AsyncAnswer]", error: BaseException) -> None:
    if not made.done():
        made.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Call a function on the loop; when that is over, nobody is there to be told."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *arguments)

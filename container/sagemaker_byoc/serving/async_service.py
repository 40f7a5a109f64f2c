"""The service for an event loop: the same answers, from functions on the loop, in threads, or awaited."""

import asyncio
import contextlib
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, Self, cast

from sagemaker_byoc.errors import ByocError, DeadlineExceeded, ModelNotReady, Overloaded
from sagemaker_byoc.serving.answers import error_answer, refusal
from sagemaker_byoc.serving.caller import Caller
from sagemaker_byoc.serving.exchange import Answer, AsyncAnswer, Request
from sagemaker_byoc.serving.gate import check_wanted
from sagemaker_byoc.serving.handlers import STREAM
from sagemaker_byoc.serving.model import Model
from sagemaker_byoc.serving.placement import Placement, from_thread
from sagemaker_byoc.serving.service import INVOCATIONS, Service

log = logging.getLogger(__name__)


class AsyncService(Service):
    """The routes of one worker, for its event loop."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._placement = Placement(self.settings.threads)
        self._places = self.settings.places
        self._inside = 0
        self._known: Model | None = None
        self._was_ready = False

    @property
    def container_stops(self) -> bool:
        """Whether /ping has answered 200 and does no more."""
        is_ready = self._readiness.is_ready()
        self._was_ready = self._was_ready or is_ready
        return self._was_ready and not is_ready

    async def invoke_async(self, caller: Caller) -> Answer | AsyncAnswer:
        """One invocation. Raises nothing but CancelledError, when the caller has gone."""
        started = time.perf_counter()
        self.metrics.begin()
        answer: Answer | AsyncAnswer
        try:
            answer = await self._invoke_async(caller)
        except ByocError as error:
            answer = self._refuse(error)
        except asyncio.CancelledError:
            self._count(499, started, 0, 0)
            raise
        except Exception as error:
            log.exception("the runtime failed")
            answer = error_answer(error)
        if isinstance(answer, Answer) and isinstance(answer.body, bytes):
            self._count(answer.status, started, caller.size, len(answer.body))
            return answer
        pieces: AsyncIterator[bytes]
        pieces = answer.body if isinstance(answer, AsyncAnswer) else from_thread(cast("Iterable[bytes]", answer.body))
        self._inside += 1
        counted = AsyncWatched(pieces, lambda sent: self._end_stream(answer.status, started, caller.size, sent))
        return AsyncAnswer(counted, answer.content_type, answer.status, answer.headers)

    def takes_stream(self) -> bool:
        """Whether a stream in both directions can begin now."""
        model = self.model.loaded
        return model is not None and STREAM in model.handlers and self._inside < self._places

    def refuse_stream(self) -> Answer:
        """What a caller is told whose stream cannot begin."""
        try:
            if STREAM in self.model.get(0).handlers:
                return self._refuse(Overloaded("the worker has as many requests and streams as it may have"))
        except ModelNotReady as error:
            return self._refuse(error)
        message = f"inference.py defines no function for streams; define `async def {STREAM}(stream, model)`"
        return refusal("StreamNotServed", message, 501)

    @contextlib.contextmanager
    def streaming(self) -> Iterator[Model]:
        """The model, for a stream that takes a place until it is over."""
        self._inside += 1
        self._was_ready = self._was_ready or self._readiness.is_ready()
        try:
            yield self.model.get(0)
        finally:
            self._inside -= 1

    async def _invoke_async(self, caller: Caller) -> Answer | AsyncAnswer:
        deadline = time.monotonic() + self.settings.timeout
        model = self.model.loaded or await self._wait_for_model()
        request = await caller.read(deadline, self.settings.max_request_mb)
        if model is not self._known:
            self._meet(model)
        if model.is_async or model.joins_requests:
            caller.watch()
            return await self._take_place(self._await(model, request))
        if self._placement.is_quick:
            return self._placement.run_here(partial(self._answer, model) if self.tracer.on else model.invoke, request)
        caller.watch()
        await asyncio.sleep(0)  # the loop looks whether the caller is still there
        return await self._take_place(self._placement.run_in_thread(partial(self._run, model), request))

    async def _wait_for_model(self) -> Model:
        """Callers of a worker that takes another's place wait for its model; before the first one they are told."""
        if self._readiness.has_been_ready():
            return await asyncio.to_thread(self.model.get, self.settings.timeout)
        return self.model.get(0)

    def _meet(self, model: Model) -> None:
        self._known = model
        if any(inspect.isgeneratorfunction(handler.function) for handler in model.handlers.values()):
            self._placement.expect_slow()

    async def _take_place(self, answering: Coroutine[Any, Any, Answer | AsyncAnswer]) -> Answer | AsyncAnswer:
        if self._inside >= self._places:
            answering.close()
            raise Overloaded("every thread is busy and the queue of waiting requests is full; try again later")
        self._inside += 1
        try:
            return await answering
        finally:
            self._inside -= 1

    async def _await(self, model: Model, request: Request) -> Answer | AsyncAnswer:
        if not model.is_async:  # only the queue before the model is awaited, which sees to the deadline
            return await self._answer_async(model, request)
        try:
            async with asyncio.timeout(request.deadline - time.monotonic()):
                return await self._answer_async(model, request)
        except TimeoutError:
            seconds = self.settings.timeout
            raise DeadlineExceeded(f"no answer within {seconds:g} s (SAGEMAKER_MODEL_SERVER_TIMEOUT)") from None

    async def _answer_async(self, model: Model, request: Request) -> Answer | AsyncAnswer:
        if not self.tracer.on:
            return await model.invoke_async(request)
        with self.tracer.request(request.headers, INVOCATIONS) as span:
            answer = await model.invoke_async(request)
            span.answered(answer.status, len(answer.body) if isinstance(answer.body, bytes) else 0)
            return answer

    def _run(self, model: Model, request: Request) -> Answer:
        """In a thread, when one is free."""
        check_wanted(request)
        token = self.watch.begin(request.deadline)
        try:
            return self._answer(model, request)
        finally:
            self.watch.end(token)

    def _end_stream(self, status: int, started: float, received: int, sent: int) -> None:
        self._inside -= 1
        self._count(status, started, received, sent)


class AsyncWatched:
    """A stream that says when it is over, and how many bytes it gave."""

    def __init__(self, pieces: AsyncIterator[bytes], over: Callable[[int], None]) -> None:
        self._pieces = pieces
        self._over: Callable[[int], None] | None = over
        self._sent = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self._sent += len(piece)
        return piece

    async def aclose(self) -> None:
        """Let go of the iterator behind it. To be called in every case."""
        over, self._over = self._over, None
        if over is not None:
            over(self._sent)
            await self._pieces.aclose()  # type: ignore[attr-defined]  # both kinds of pieces have it

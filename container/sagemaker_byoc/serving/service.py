"""What this container answers, whatever server asks: one method a route, an Answer for every outcome.

The Flask app, the shortcut in front of it and the ASGI lane all call this, so their answers are the same.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from sagemaker_byoc.errors import ByocError, ModelNotReady, Overloaded, RequestError
from sagemaker_byoc.serving.answers import JSON, error_answer, refusal
from sagemaker_byoc.serving.exchange import Answer, Request
from sagemaker_byoc.serving.gate import Gate, check_wanted
from sagemaker_byoc.serving.long_bodies import LONG_BYTES
from sagemaker_byoc.serving.metrics import Metrics
from sagemaker_byoc.serving.model import LoadingModel, Model
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.streams import Watched
from sagemaker_byoc.serving.tracing import Tracer
from sagemaker_byoc.serving.watch import Watch

INVOCATIONS = "/invocations"
log = logging.getLogger(__name__)


class Service:
    """The routes of one worker over a model that may still be loading."""

    def __init__(
        self,
        model: LoadingModel,
        readiness: Readiness,
        settings: ServeSettings,
        metrics: Metrics,
        gate: Gate,
        tracer: Tracer,
    ) -> None:
        self.settings = settings
        self.model = model
        self.metrics = metrics
        self.tracer = tracer
        self.watch = Watch(settings.threads)
        self._readiness = readiness
        self._gate = gate
        self._reading = Gate(settings.threads, settings.places)

    def ping(self) -> Answer:
        """Whether requests may be sent here."""
        return Answer(b"", "text/plain", 200 if self._readiness.is_ready() else 503)

    def execution_parameters(self) -> Answer:
        """How a transform job may use this container, where the request for the job does not say."""
        settings = self.settings
        parameters = {
            "MaxConcurrentTransforms": settings.concurrent_transforms,
            "BatchStrategy": settings.batch_strategy,
            "MaxPayloadInMB": settings.max_payload_mb,
        }
        return Answer(json.dumps(parameters).encode() + b"\n", JSON)

    def refuse_stream(self) -> Answer:
        """What a caller is told who wants a stream in both directions, which need an event loop."""
        message = "streams in both directions are served with BYOC_LANE=asgi, by `bidirectional_stream_fn`"
        return refusal("StreamNotServed", message, 501)

    def interface(self) -> Answer:
        """What may be sent and what comes back, as OpenAPI has it."""
        from sagemaker_byoc.serving import openapi  # noqa: PLC0415 - few ask

        handlers = getattr(self.model.loaded, "handlers", {})
        return Answer(json.dumps(openapi.describe(openapi.interface_of(handlers))).encode(), JSON)

    def scrape(self, accept: str) -> Answer:
        """The metrics of all workers, as Prometheus reads them."""
        return Answer(*self.metrics.render(accept))

    def invoke(self, read: Callable[[float], Request], size: int | None) -> Answer:
        """One invocation: `read` gets the deadline and returns the request with its body; `size` is the body's length
        in bytes where it is known. Never raises.
        """
        started = time.perf_counter()
        self.metrics.begin()
        try:
            answer = self._invoke(read, size)
        except ByocError as error:
            answer = self._refuse(error)
        except Exception as error:
            log.exception("the runtime failed")
            answer = error_answer(error)
        if isinstance(answer.body, bytes):
            self._count(answer.status, started, size or 0, len(answer.body))
            return answer
        return replace(
            answer, body=Watched(answer.body, lambda sent: self._count(answer.status, started, size or 0, sent))
        )

    def _invoke(self, read: Callable[[float], Request], size: int | None) -> Answer:
        deadline = time.monotonic() + self.settings.timeout
        # Callers of a worker that takes another's place wait for its model; before the first one they are told at once.
        model = self.model.loaded or self.model.get(self.settings.timeout if self._readiness.has_been_ready() else 0)
        if model.joins_requests:
            return self._answer(model, read(deadline))
        request, waited = self._receive(read, size, deadline)
        token = self.watch.begin(deadline)
        streams = False
        try:
            if waited:
                check_wanted(request)
            answer = self._answer(model, request)
            if not isinstance(answer.body, bytes):
                streams = True  # and keeps its place until it is over
                answer = replace(answer, body=Watched(answer.body, lambda _: self._gate.leave()))
            return answer
        finally:
            self.watch.end(token)
            if not streams:
                self._gate.leave()

    def _receive(self, read: Callable[[float], Request], size: int | None, deadline: float) -> tuple[Request, bool]:
        """The request, which has a place in the model now, and whether it waited for it. Long bodies have places of
        their own to be read in: callers who are slow with theirs hold up each other, and nobody else.
        """
        if size is not None and size < LONG_BYTES:
            return read(deadline), self._gate.enter(deadline)
        waited = self._reading.enter(deadline)
        try:
            request = read(deadline)
            return request, self._gate.enter(deadline) or waited
        finally:
            self._reading.leave()

    def _answer(self, model: Model, request: Request) -> Answer:
        if not self.tracer.on:
            return model.invoke(request)
        with self.tracer.request(request.headers, INVOCATIONS) as span:
            answer = model.invoke(request)
            span.answered(answer.status, len(answer.body) if isinstance(answer.body, bytes) else 0)
            return answer

    def _refuse(self, error: ByocError) -> Answer:
        if isinstance(error, RequestError):
            self.metrics.rejected(type(error).__name__)
        answer = error_answer(error)
        if isinstance(error, Overloaded):
            return replace(answer, status=self.settings.overload_status)
        if isinstance(error, ModelNotReady):
            return replace(answer, headers=(("Retry-After", "1"),))
        return answer

    def _count(self, status: int, started: float, received: int, sent: int) -> None:
        self.metrics.request(INVOCATIONS, status, time.perf_counter() - started, received, sent)
        self.metrics.end()

"""A loaded model and how one request travels through its functions. No server here."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sagemaker_byoc.errors import HandlerError, MalformedBody, ModelNotReady, NotAcceptable, RequestError
from sagemaker_byoc.serving import async_streams, codecs, streams
from sagemaker_byoc.serving.batcher import Batcher
from sagemaker_byoc.serving.batching import BatchPolicy, BatchRecord
from sagemaker_byoc.serving.exchange import CUSTOM_ATTRIBUTES, Answer, AsyncAnswer, Request
from sagemaker_byoc.serving.handlers import STREAM, Context, Handler, is_cancelled

if TYPE_CHECKING:
    from sagemaker_byoc.serving.typed import TypedInput

OCTET_STREAM = "application/octet-stream"
# The inference toolkits hand these to input_fn as text, and scripts written for them count on it.
_AS_TEXT = (codecs.JSON, codecs.CSV)
Sent = TypeVar("Sent", bound=Answer | AsyncAnswer)


class Observer(Protocol):
    """Somebody who wants to know how long each stage of a request took, in seconds, and of each batch."""

    def stage(self, name: str, seconds: float) -> None: ...

    def batch(self, rows: int, requests: int, reason: str, waited_seconds: float, ran_seconds: float) -> None: ...


@dataclass(frozen=True)
class Model:
    """What model_fn returned, with the functions around it. `limit`: bytes that a compressed body may become."""

    value: Any
    handlers: Mapping[str, Handler]
    context: Context
    default_accept: str
    limit: int
    predict: Callable[[Context, Any], Any]
    observer: Observer
    batcher: Batcher | None = None
    typed: "TypedInput | None" = None
    convert: Callable[[Any, str], Any] | None = None

    def with_batches(self, policy: BatchPolicy, predict: Callable[[Any], Any]) -> "Model":
        """The same with a queue before it, from which requests go through `predict` together; it raises what it likes,
        which is explained to the request that it was raised for.
        """
        observer = self.observer

        def observe(run: BatchRecord) -> None:
            observer.batch(run.rows, run.requests, run.reason, run.waited_seconds, run.ran_seconds)

        return replace(self, batcher=Batcher(predict, policy, observe))

    def with_types(self, typed: "TypedInput | None") -> "Model":
        """The same with bodies that are checked before predict_fn sees them."""
        return replace(self, typed=typed)

    @property
    def joins_requests(self) -> bool:
        """Whether requests run together; then they all may come in at once."""
        return self.batcher is not None

    def close(self) -> None:
        """To be called when no request is in the model and none will come any more."""
        if self.batcher is not None:
            self.batcher.close()

    def invoke(self, request: Request) -> Answer:
        """One request, one answer. Raises RequestError or HandlerError."""
        context, media_type, accept = self._begin(request)
        if "transform_fn" in self.handlers:
            return _with_reply(self._transform(context, request, media_type, accept), context)
        started = time.perf_counter()
        data = self._read(context, request, media_type)
        decoded = time.perf_counter()
        prediction = self._predict(context, data, request)
        predicted = time.perf_counter()
        answer = self._write(context, prediction, accept)
        self.observer.stage("decode", decoded - started)
        self.observer.stage("predict", predicted - decoded)
        self.observer.stage("encode", time.perf_counter() - predicted)
        return _with_reply(answer, context)

    @cached_property
    def is_async(self) -> bool:
        """Whether any function that a request travels through is to be awaited."""
        return any(handler.is_async for name, handler in self.handlers.items() if name != STREAM)

    async def invoke_async(self, request: Request) -> Answer | AsyncAnswer:
        """The same on an event loop, for functions some of which are `async`; the plain ones run on the loop too."""
        context, media_type, accept = self._begin(request)
        if "transform_fn" in self.handlers:
            body, wanted = _body_for_users(request.body, media_type), self._wanted_type(accept)
            transform = self.handlers["transform_fn"]
            made = await transform.wait(context, self.value, body, media_type.name, wanted)
            return _with_reply(await _answer_async(made, wanted, transform), context)
        started = time.perf_counter()
        data = await self._read_async(context, request, media_type)
        decoded = time.perf_counter()
        prediction = await self._predict_async(context, data, request)
        predicted = time.perf_counter()
        answer = await self._write_async(context, prediction, accept)
        self.observer.stage("decode", decoded - started)
        self.observer.stage("predict", predicted - decoded)
        self.observer.stage("encode", time.perf_counter() - predicted)
        return _with_reply(answer, context)

    def _begin(self, request: Request) -> tuple[Context, codecs.MediaType, str]:
        """What is known before the body is decoded; an Accept that cannot be met is told before the model works."""
        context = Context(self.context.model_dir, request.headers, self.context.device, request.session)
        media_type = codecs.parse_media_type(request.content_type or OCTET_STREAM)
        codec = codecs.find_codec(media_type.name)
        if codec and codecs.is_empty(request.body, codec) and not {"input_fn", "transform_fn"} & self.handlers.keys():
            raise MalformedBody(f"the request body is empty; expected {codec.content_type}.")
        accept = request.accept.strip() or self.default_accept
        if "transform_fn" not in self.handlers and "output_fn" not in self.handlers:
            self._check_accept(accept)
        return context, media_type, accept

    def _check_accept(self, accept: str) -> None:
        """Raises NotAcceptable. What a predict_fn yields can be events; whether it does shows when it was called."""
        try:
            codecs.choose_codec(accept)
        except NotAcceptable:
            events = any(media_type.name == streams.EVENT_STREAM for media_type in codecs.parse_accept(accept))
            if not events or "predict_fn" not in self.handlers or self.joins_requests:
                raise

    def _transform(self, context: Context, request: Request, media_type: codecs.MediaType, accept: str) -> Answer:
        body = _body_for_users(request.body, media_type)
        wanted = self._wanted_type(accept)
        started = time.perf_counter()
        made = self.handlers["transform_fn"](context, self.value, body, media_type.name, wanted)
        self.observer.stage("predict", time.perf_counter() - started)
        return _answer(made, wanted, self.handlers["transform_fn"])

    def _read(self, context: Context, request: Request, media_type: codecs.MediaType) -> Any:
        input_fn = self.handlers.get("input_fn")
        if input_fn:
            return input_fn(context, _body_for_users(request.body, media_type), media_type.name)
        if self.typed:
            return self.typed.read(request.body, request.content_type, self.limit)
        data = codecs.decode(request.body, request.content_type, self.limit)
        return self.convert(data, media_type.name) if self.convert else data

    async def _read_async(self, context: Context, request: Request, media_type: codecs.MediaType) -> Any:
        input_fn = self.handlers.get("input_fn")
        if input_fn and input_fn.is_async:
            return await input_fn.wait(context, _body_for_users(request.body, media_type), media_type.name)
        return self._read(context, request, media_type)

    async def _predict_async(self, context: Context, data: Any, request: Request) -> Any:
        predict_fn = self.handlers.get("predict_fn")
        if self.batcher:
            try:
                return await self.batcher.submit_async(data, request.deadline, request.is_wanted)
            except (RequestError, GeneratorExit):
                raise
            except BaseException as error:
                if is_cancelled(error):
                    raise
                raise self._predicts().explain(error) from error
        if predict_fn and predict_fn.is_async:
            return await predict_fn.wait(context, data, self.value)
        return self.predict(context, data)

    async def _write_async(self, context: Context, prediction: Any, accept: str) -> Answer | AsyncAnswer:
        output_fn = self.handlers.get("output_fn")
        if output_fn:
            wanted = self._wanted_type(accept)
            return await _answer_async(await output_fn.wait(context, prediction, wanted), wanted, output_fn)
        if isinstance(prediction, AsyncIterator):
            return await async_streams.stream_values(prediction, accept, self.handlers["predict_fn"])
        return self._write(context, prediction, accept)

    def _predict(self, context: Context, data: Any, request: Request) -> Any:
        if self.batcher:
            try:
                return self.batcher.submit(data, request.deadline, request.is_wanted)
            except RequestError:
                raise
            except BaseException as error:
                raise self._predicts().explain(error) from error
        return self.predict(context, data)

    def _write(self, context: Context, prediction: Any, accept: str) -> Answer:
        output_fn = self.handlers.get("output_fn")
        if output_fn:
            wanted = self._wanted_type(accept)
            return _answer(output_fn(context, prediction, wanted), wanted, output_fn)
        if isinstance(prediction, Iterator):
            return streams.stream_values(prediction, accept, self._predicts())
        return Answer(*codecs.encode(prediction, accept))

    def _predicts(self) -> Handler:
        """The function that is to blame for a prediction."""
        return self.handlers.get("predict_fn") or Handler("model", self.value, "")

    def _wanted_type(self, accept: str) -> str:
        """The one type that the user's function is asked for: the best named one, else the default."""
        wanted = codecs.parse_accept(accept)
        if not wanted:
            raise NotAcceptable(f"Accept {accept!r} refuses every type; expected one that may be written.")
        return wanted[0].name if "*" not in wanted[0].name else self.default_accept


def _body_for_users(body: bytes, media_type: codecs.MediaType) -> bytes | str:
    if media_type.name not in _AS_TEXT:
        return body
    try:
        return body.decode(media_type.charset)
    except UnicodeDecodeError as error:
        raise MalformedBody(f"the body is not {media_type.charset} at byte {error.start}.") from None


def _answer(made: Any, wanted: str, handler: Handler) -> Answer:
    """What output_fn and transform_fn may return: a body, a stream of pieces, or a value to be written, alone or with
    its content type; or a response of Flask's, as in scripts for AWS's images for scikit-learn.
    """
    body, content_type = made if isinstance(made, tuple) and len(made) == 2 else (made, wanted)
    if isinstance(body, str):
        body = body.encode()
    if callable(getattr(body, "get_data", None)) and hasattr(body, "status_code"):
        own = getattr(body, "content_type", None) or getattr(body, "mimetype", None)
        return Answer(body.get_data(), own or wanted, body.status_code)
    if isinstance(content_type, str):
        if isinstance(body, Iterator):
            return Answer(streams.stream_pieces(body, handler), content_type)
        if isinstance(body, bytes | bytearray | memoryview):
            return Answer(bytes(body), content_type)
    return _write_value(made, body, content_type, handler)


def _write_value(made: Any, body: Any, content_type: Any, handler: Handler) -> Answer:
    """A value that the function left to be written. Raises HandlerError for one that cannot be, or was hardly meant."""
    reason = ""
    if isinstance(content_type, str) and body is not None and not isinstance(body, tuple):
        try:
            return Answer(*codecs.encode(body, content_type))
        except (RequestError, HandlerError) as error:
            reason = f" ({error})"
    raise HandlerError(
        f"{handler.name} returned a {type(made).__name__}; expected bytes or str, an iterator of them, a value that "
        f"can be written as the content type, or a pair of one and a content type{reason}."
    )


async def _answer_async(made: Any, wanted: str, handler: Handler) -> Answer | AsyncAnswer:
    body, content_type = made if isinstance(made, tuple) and len(made) == 2 else (made, wanted)
    if isinstance(body, AsyncIterator) and isinstance(content_type, str):
        return await async_streams.stream_pieces(body, content_type, handler)
    return _answer(made, wanted, handler)


def _with_reply(answer: Sent, context: Context) -> Sent:
    """The answer with the headers that the functions asked for."""
    reply = context.reply
    if not reply.custom_attributes and not reply.headers:
        return answer
    headers = [*answer.headers, *reply.headers.items()]
    if reply.custom_attributes:
        headers.append((CUSTOM_ATTRIBUTES, reply.custom_attributes))
    return replace(answer, headers=tuple(headers))


class LoadingModel:
    """A model that loads in a thread of its own, so that the worker can already say that it is not ready."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self.loaded: Model | None = None
        self._reason = ""

    def finish(self, model: Model) -> None:
        self.loaded = model
        self._done.set()

    def fail(self, reason: str) -> None:
        self._reason = reason
        self._done.set()

    def get(self, seconds: float) -> Model:
        """The model, waiting at most `seconds` for it. Raises ModelNotReady."""
        self._done.wait(seconds)
        if self.loaded is not None:
            return self.loaded
        raise ModelNotReady(
            f"the model could not be loaded: {self._reason}" if self._reason else "the model is loading"
        )

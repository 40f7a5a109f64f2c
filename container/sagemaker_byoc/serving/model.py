"""A loaded model and how one request travels through its functions. No Flask here."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sagemaker_byoc.errors import HandlerError, MalformedBody, ModelNotReady, NotAcceptable, Overloaded
from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.handlers import Context, Handler, resolve_handlers
from sagemaker_byoc.settings import ServeSettings
from sagemaker_byoc.user_code import find_module, import_module

OCTET_STREAM = "application/octet-stream"
# The inference toolkits hand these to input_fn as text, and scripts written for them count on it.
_AS_TEXT = (codecs.JSON, codecs.CSV)


@dataclass(frozen=True)
class Request:
    """The parts of an invocation that matter: body, Content-Type, Accept and all headers."""

    body: bytes
    content_type: str
    accept: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """A body and its content type."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Model:
    """What model_fn returned, with the functions around it."""

    value: Any
    handlers: Mapping[str, Handler]
    context: Context
    default_accept: str

    @classmethod
    def load(cls, settings: ServeSettings) -> "Model":
        """Import inference.py and run model_fn. Raises UserCodeError, or whatever the user's module raises."""
        paths = settings.paths
        folders = [paths.model / "code", paths.code, paths.image_code]
        handlers = resolve_handlers(import_module(find_module(settings.program, folders)))
        context = Context(model_dir=paths.model)
        model_fn = handlers.get("model_fn")
        value = model_fn(context, str(paths.model)) if model_fn else None
        return cls(value, handlers, context, settings.default_accept)

    def invoke(self, request: Request) -> Answer:
        """One request, one answer. Raises RequestError or HandlerError."""
        context = Context(self.context.model_dir, request.headers)
        media_type = codecs.parse_media_type(request.content_type or OCTET_STREAM)
        codec = codecs.find_codec(media_type.name)
        if codec and not request.body.strip():
            raise MalformedBody(f"the request body is empty; expected {codec.content_type}.")
        accept = request.accept.strip() or self.default_accept
        transform = self.handlers.get("transform_fn")
        if transform:
            body = _body_for_users(request.body, media_type)
            made = transform(context, self.value, body, media_type.name, self._wanted_type(accept))
            return _answer(made, self._wanted_type(accept), "transform_fn")
        if "output_fn" not in self.handlers:
            codecs.choose_codec(accept)  # an Accept that cannot be met is told before the model works for nothing
        data = self._read(context, request, media_type)
        return self._write(context, self._predict(context, data), accept)

    def _read(self, context: Context, request: Request, media_type: codecs.MediaType) -> Any:
        input_fn = self.handlers.get("input_fn")
        if input_fn:
            return input_fn(context, _body_for_users(request.body, media_type), media_type.name)
        return codecs.decode(request.body, request.content_type or OCTET_STREAM)

    def _predict(self, context: Context, data: Any) -> Any:
        predict_fn = self.handlers.get("predict_fn")
        if predict_fn:
            return predict_fn(context, data, self.value)
        if hasattr(self.value, "predict"):
            return Handler("model.predict", self.value.predict, "")(context, data)
        if callable(self.value):
            return Handler("model", self.value, "")(context, data)
        raise HandlerError(
            f"model_fn returned a {type(self.value).__name__}, which cannot be called and has no predict method; "
            "define predict_fn in inference.py."
        )

    def _write(self, context: Context, prediction: Any, accept: str) -> Answer:
        output_fn = self.handlers.get("output_fn")
        if output_fn:
            wanted = self._wanted_type(accept)
            return _answer(output_fn(context, prediction, wanted), wanted, "output_fn")
        return Answer(*codecs.encode(prediction, accept))

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


def _answer(made: Any, wanted: str, function: str) -> Answer:
    """What output_fn and transform_fn may return: a body, or a body and its content type."""
    body, content_type = made if isinstance(made, tuple) and len(made) == 2 else (made, wanted)
    if isinstance(body, str):
        body = body.encode()
    if not isinstance(body, bytes | bytearray | memoryview) or not isinstance(content_type, str):
        raise HandlerError(
            f"{function} returned a {type(made).__name__}; expected bytes or str, or a pair of one and a content type."
        )
    return Answer(bytes(body), content_type)


class LoadingModel:
    """A model that loads in a thread of its own, so that the worker can already say that it is not ready."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._model: Model | None = None
        self._reason = ""

    def finish(self, model: Model) -> None:
        self._model = model
        self._done.set()

    def fail(self, reason: str) -> None:
        self._reason = reason
        self._done.set()

    def get(self, seconds: float) -> Model:
        """The model, waiting at most `seconds` for it. Raises ModelNotReady."""
        self._done.wait(seconds)
        if self._model is not None:
            return self._model
        raise ModelNotReady(
            f"the model could not be loaded: {self._reason}" if self._reason else "the model is loading"
        )


class Gate:
    """At most `active` requests in the model at once and `waiting` before it; more are turned away at once."""

    def __init__(self, active: int, waiting: int) -> None:
        self._active = threading.BoundedSemaphore(active)
        self._all = threading.BoundedSemaphore(active + waiting)

    def __enter__(self) -> Self:
        if not self._all.acquire(blocking=False):
            raise Overloaded("every thread is busy and the queue of waiting requests is full; try again later")
        self._active.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._active.release()
        self._all.release()

"""The functions of the user's inference.py, resolved once: names, defaults and what each is called with.

Source: the handler functions of SageMaker's inference toolkits; each may take one more argument, `context`.
"""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from sagemaker_byoc.errors import HandlerError, MalformedBody, RequestError, UserCodeError
from sagemaker_byoc.serving.exchange import CUSTOM_ATTRIBUTES, INFERENCE_ID
from sagemaker_byoc.user_code import users_frames

_OWN_HEADERS = ("content-type", "content-length", "transfer-encoding", "connection", "date", "server")

STREAM = "bidirectional_stream_fn"
ARGUMENTS = {
    "pre_model_fn": 1,
    "model_fn": 1,
    "model_warmup_fn": 2,
    "input_fn": 2,
    "predict_fn": 2,
    "output_fn": 2,
    "transform_fn": 4,
    STREAM: 2,
}
_OWN_FOLDER = f"{Path(__file__).parent}/"
log = logging.getLogger(__name__)


@dataclass
class Reply:
    """What a function adds to the answer besides its body."""

    custom_attributes: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a function may want to know besides its arguments: the model's folder, the device that is its own (`cpu` or
    `cuda:0`), the request's headers and, where the endpoint has sessions, the caller's session.
    """

    model_dir: Path
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    device: str = "cpu"
    session: Any = None
    reply: Reply = field(default_factory=Reply)

    @property
    def custom_attributes(self) -> str:
        """The caller's custom attributes, or an empty string."""
        return self.headers.get(CUSTOM_ATTRIBUTES, "")

    @property
    def inference_id(self) -> str:
        """The caller's inference id, or an empty string."""
        return self.headers.get(INFERENCE_ID, "")

    @property
    def system_properties(self) -> dict[str, Any]:
        """`model_dir`, and `gpu_id`, a number or None, by the names that TorchServe's context has for them."""
        kind, _, number = self.device.partition(":")
        return {"model_dir": str(self.model_dir), "gpu_id": int(number or 0) if kind == "cuda" else None}

    def get_request_header(self, _index: int, name: str) -> str | None:
        """A header of the request, or None, in the way of TorchServe's context; there is one request at a time."""
        return self.headers.get(name)

    def set_custom_attributes(self, text: str) -> None:
        """Send custom attributes back with the answer. Raises ValueError for text that the platform would refuse."""
        if len(text) > 1024 or not all(" " <= letter <= "~" for letter in text):
            raise ValueError(f"custom attributes are at most 1024 visible ASCII characters, got {text[:64]!r}")
        self.reply.custom_attributes = text

    def set_header(self, name: str, value: str) -> None:
        """Send one more header back. Raises ValueError for one that would break the answer."""
        if not re.fullmatch(r"[A-Za-z0-9-]+", name) or name.lower() in _OWN_HEADERS:
            raise ValueError(f"{name!r} is no header that a handler may set")
        if not all(" " <= letter <= "~" for letter in value):
            raise ValueError(f"the value of {name} holds characters that a header cannot have: {value[:64]!r}")
        self.reply.headers[name] = value


@dataclass(frozen=True)
class Handler:
    """One of the user's functions, whether it takes the context, and whether it is `async`."""

    name: str
    function: Callable[..., Any]
    takes_context: str
    is_async: bool = False

    def __call__(self, context: Context, *arguments: Any) -> Any:
        """Call it. What it raises becomes a HandlerError for the caller, and a trace of the user's frames in the log;
        our own request errors, and a ValueError of input_fn about the body, keep their status, and so does an error
        that brings one (`status_code`, as the errors of AWS's inference toolkit and of FastAPI, or `code`, as Flask's).
        """
        try:
            if not self.takes_context:
                return self.function(*arguments)
            if self.takes_context == "keyword":
                return self.function(*arguments, context=context)
            return self.function(*arguments, context)
        except RequestError:
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception, and would end the worker
            raise self.explain(error) from error

    async def wait(self, context: Context, *arguments: Any) -> Any:
        """Call it, and await what it returns where it is `async`; errors are told as above."""
        keywords = {"context": context} if self.takes_context == "keyword" else {}
        if self.takes_context == "positional":
            arguments = (*arguments, context)
        try:
            made = self.function(*arguments, **keywords)
            return await made if inspect.isawaitable(made) else made
        except (RequestError, GeneratorExit):
            raise
        except BaseException as error:
            if is_cancelled(error):
                raise
            raise self.explain(error) from error

    def explain(self, error: BaseException) -> HandlerError | RequestError:
        """The error that the caller is told for one that this function raised; the log gets the trace."""
        place = _place(error)
        log.error("%s failed at %s", self.name, place, exc_info=_users_part(error))
        text = f"{self.name} raised {type(error).__name__}: {error} ({place})"
        status = _status(error)
        if status is None and self.name == "input_fn" and isinstance(error, ValueError):
            return MalformedBody(text)
        return HandlerError(text, status or HandlerError.status)


def resolve_handlers(module: ModuleType, needs_model: bool = True) -> dict[str, Handler]:
    """The functions that the module defines. Raises UserCodeError for a set that cannot predict, or that could only
    with a model that needs no code.
    """
    handlers = {name: _resolve(name, getattr(module, name)) for name in ARGUMENTS if hasattr(module, name)}
    if needs_model and not {"model_fn", "predict_fn", "transform_fn", STREAM} & set(handlers):
        if hasattr(module, "handle"):
            raise UserCodeError(
                f"{module.__file__} is a handler service of multi-model-server or TorchServe, with handle(data, "
                "context). Expected functions: model_fn(model_dir) for what initialize does in it, and "
                "transform_fn(model, body, content_type, accept) for what handle does with one body."
            )
        raise UserCodeError(
            f"{module.__file__} defines none of model_fn, predict_fn, transform_fn and {STREAM}; "
            "expected at least one of them."
        )
    if "transform_fn" in handlers and {"input_fn", "predict_fn", "output_fn"} & set(handlers):
        raise UserCodeError(
            f"{module.__file__} defines transform_fn beside input_fn, predict_fn or output_fn; "
            "expected either transform_fn or the other three."
        )
    return handlers


def check_lane(handlers: Mapping[str, Handler], lane: str) -> None:
    """Raises UserCodeError for functions that are `async` where nobody awaits them, or are not where that is needed."""
    for name, handler in handlers.items():
        if handler.is_async and name in ("pre_model_fn", "model_fn", "model_warmup_fn"):
            raise UserCodeError(f"{name} in inference.py is async; expected a plain function.")
        if handler.is_async and lane == "wsgi" and name != STREAM:
            raise UserCodeError(
                f"{name} in inference.py is async, which needs an event loop: set BYOC_LANE=asgi, or make it a plain "
                "function."
            )
    stream = handlers.get(STREAM)
    if stream and not stream.is_async:
        raise UserCodeError(f"{STREAM} in inference.py is not async; expected `async def {STREAM}(stream, model)`.")
    if stream and lane == "wsgi":
        log.warning("%s in inference.py is not served: streams in both directions need BYOC_LANE=asgi", STREAM)


def _is_async(function: Any) -> bool:
    called = (function, getattr(function, "__call__", None))  # noqa: B004 - an object may have an async __call__
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in called)


def _resolve(name: str, function: Any) -> Handler:
    if not callable(function):
        raise UserCodeError(f"{name} in inference.py is a {type(function).__name__}; expected a function.")
    expected = ARGUMENTS[name]
    is_async = _is_async(function)
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return Handler(name, function, "", is_async)
    if "context" in parameters:
        return Handler(name, function, "keyword", is_async)
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if len(required) > expected + 1 or (len(positional) < expected and not variadic):
        raise UserCodeError(
            f"{name} in inference.py takes {len(positional)} arguments; expected {expected}, or {expected + 1} with a "
            f"context: {name}{inspect.signature(function)}."
        )
    return Handler(name, function, "positional" if len(required) == expected + 1 else "", is_async)


def is_cancelled(error: BaseException) -> bool:
    """Whether an error only says that a request on an event loop is to end."""
    from asyncio import CancelledError  # noqa: PLC0415 - a lane without an event loop never imports it

    return isinstance(error, CancelledError)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error brings with it."""
    for name in ("status_code", "code"):
        value = getattr(error, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _users_part(error: BaseException) -> BaseException:
    """The error with its trace starting at the user's first frame."""
    trace = error.__traceback__
    while trace and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(_OWN_FOLDER):
        trace = trace.tb_next
    return error.with_traceback(trace)


def _place(error: BaseException) -> str:
    """File and line, in the user's code, of the innermost frame outside installed packages."""
    frames = users_frames(error)
    own = [f for f in frames if "site-packages" not in f.filename and "dist-packages" not in f.filename] or frames
    own = [f for f in own if not f.filename.startswith(_OWN_FOLDER)] or own
    own = [f for f in own if "/lib/python3" not in f.filename] or own
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "an unknown place"

"""The functions of the user's inference.py, resolved once: names, defaults and what each is called with.

Source: the handler functions of SageMaker's inference toolkits; each may take one more argument, `context`.
"""

import inspect
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from sagemaker_byoc.errors import HandlerError, MalformedBody, RequestError, UserCodeError

ARGUMENTS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What a function may want to know besides its arguments: the model's folder and the request's headers."""

    model_dir: Path
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def custom_attributes(self) -> str:
        """The caller's custom attributes, or an empty string."""
        return next((v for k, v in self.headers.items() if k.lower() == CUSTOM_ATTRIBUTES.lower()), "")


@dataclass(frozen=True)
class Handler:
    """One of the user's functions and whether it takes the context."""

    name: str
    function: Callable[..., Any]
    takes_context: str

    def __call__(self, context: Context, *arguments: Any) -> Any:
        """Call it. What it raises becomes a HandlerError for the caller, and a trace of the user's frames in the log;
        our own request errors, and a ValueError of input_fn about the body, keep their status.
        """
        try:
            if self.takes_context == "keyword":
                return self.function(*arguments, context=context)
            return self.function(*arguments, *((context,) if self.takes_context else ()))
        except RequestError:
            raise
        except (Exception, SystemExit) as error:
            place = _place(error)
            log.exception("%s failed at %s", self.name, place, exc_info=_users_part(error))
            text = f"{self.name} raised {type(error).__name__}: {error} ({place})"
            if self.name == "input_fn" and isinstance(error, ValueError):
                raise MalformedBody(text) from error
            raise HandlerError(text) from error


def resolve_handlers(module: ModuleType) -> dict[str, Handler]:
    """The functions that the module defines. Raises UserCodeError for a set that cannot predict."""
    handlers = {name: _resolve(name, getattr(module, name)) for name in ARGUMENTS if hasattr(module, name)}
    if not {"model_fn", "predict_fn", "transform_fn"} & set(handlers):
        raise UserCodeError(
            f"{module.__file__} defines none of model_fn, predict_fn and transform_fn; expected at least one of them."
        )
    if "transform_fn" in handlers and {"input_fn", "predict_fn", "output_fn"} & set(handlers):
        raise UserCodeError(
            f"{module.__file__} defines transform_fn beside input_fn, predict_fn or output_fn; "
            "expected either transform_fn or the other three."
        )
    return handlers


def _resolve(name: str, function: Any) -> Handler:
    if not callable(function):
        raise UserCodeError(f"{name} in inference.py is a {type(function).__name__}; expected a function.")
    expected = ARGUMENTS[name]
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return Handler(name, function, "")
    if "context" in parameters:
        return Handler(name, function, "keyword")
    positional = [p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    if len(required) > expected + 1 or (len(positional) < expected and not variadic):
        raise UserCodeError(
            f"{name} in inference.py takes {len(positional)} arguments; expected {expected}, or {expected + 1} with a "
            f"context: {name}{inspect.signature(function)}."
        )
    return Handler(name, function, "positional" if len(required) == expected + 1 else "")


def _users_part(error: BaseException) -> BaseException:
    """The error with its trace starting at the user's first frame."""
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace and trace.tb_next else trace)


def _place(error: BaseException) -> str:
    """File and line, in the user's code, of the innermost frame outside installed packages."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [f for f in frames if "site-packages" not in f.filename and "dist-packages" not in f.filename] or frames
    own = [f for f in own if "/lib/python3" not in f.filename and not f.filename.startswith("<frozen")] or own
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else "an unknown place"

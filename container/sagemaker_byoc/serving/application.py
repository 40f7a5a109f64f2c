"""A WSGI application of the user's, named as `module:object` and served in place of this image's own.

Source: the variable SAGEMAKER_SERVING_MODULE of AWS's sagemaker-containers. The module is imported in a thread of its
own, as a model is loaded: until then, and when that fails, callers are told so with 503.
"""

import importlib
import json
import sys
from collections.abc import Iterable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sagemaker_byoc.errors import UserCodeError

DEFAULT_OBJECT = "main"


class LoadingApplication:
    """Answers 503 until the user's application is there, then passes every request on to it."""

    def __init__(self) -> None:
        self._application: WSGIApplication | None = None
        self._message = "the application is loading"

    def finish(self, application: WSGIApplication) -> None:
        self._application = application

    def fail(self, reason: str) -> None:
        self._message = f"the application could not be loaded: {reason}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._application is not None:
            return self._application(environ, start_response)
        body = json.dumps({"error": {"type": "ModelNotReady", "message": self._message}}).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Retry-After", "1")]
        start_response("503 Service Unavailable", headers)
        return [body]


def import_application(spec: str, folders: Sequence[Path]) -> WSGIApplication:
    """The application that `module:object` names, from a code folder or an installed package.

    Raises UserCodeError for a name that is missing or no application, or whatever the module raises.
    """
    module_name, _, name = spec.partition(":")
    sys.path[:0] = [str(folder) for folder in folders if folder.is_dir() and str(folder) not in sys.path]
    module = importlib.import_module(module_name)
    try:
        application: Any = reduce(getattr, (name or DEFAULT_OBJECT).split("."), module)
    except AttributeError:
        there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UserCodeError(
            f"SAGEMAKER_SERVING_MODULE is {spec!r}, and module {module_name} has no {name or DEFAULT_OBJECT!r}; "
            f"it has {', '.join(there[:12]) or 'nothing that can be called'}."
        ) from None
    if not callable(application):
        raise UserCodeError(
            f"SAGEMAKER_SERVING_MODULE is {spec!r}, which is a {type(application).__name__}; expected a WSGI "
            "application, which is called with environ and start_response."
        )
    checked: WSGIApplication = application
    return checked

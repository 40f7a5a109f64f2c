"""A WSGI application of the user's, named as `module:object` and served in place of this image's own.

Source: the variable SAGEMAKER_SERVING_MODULE of AWS's sagemaker-containers. The module is imported in a thread of its
own, as a model is loaded: until then, and when that fails, callers are told so with 503.
"""

import importlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from sagemaker_byoc.user_code import find_callable

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
    application: WSGIApplication = find_callable(module, name or DEFAULT_OBJECT, "SAGEMAKER_SERVING_MODULE")
    return application

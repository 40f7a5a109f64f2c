"""A WSGI application of the user's: named as `module:object`, or an `app` in predictor.py or inference.py.

The module is imported in a thread of its own, as a model is loaded: until then, and when that fails, callers are told
so with 503. Sources: the variable SAGEMAKER_SERVING_MODULE of AWS's sagemaker-containers, and the `predictor.py` of
AWS's public sample for containers of one's own.
"""

import ast
import importlib
import inspect
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.util import setup_testing_defaults

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.user_code import find_callable, import_module

DEFAULT_OBJECT = "main"
PREDICTOR = "predictor.py"
MODEL_KEY = "sagemaker_byoc.model"  # where an application finds, in its environ, what model_fn returned
ASK_SECONDS = 0.25  # until an application calls itself healthy for the first time
LOOK_SECONDS = 5.0  # and from then on
FAILURES = 3
log = logging.getLogger(__name__)


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


class Beside:
    """The user's application where it has a route, this container's own everywhere else."""

    def __init__(self, ours: WSGIApplication) -> None:
        self._ours = ours
        self._theirs: WSGIApplication | None = None
        self._value: Any = None
        self._has_route: Callable[[str], bool] = lambda _path: False

    def add(self, theirs: WSGIApplication, has_route: Callable[[str], bool], value: Any) -> None:
        """From now on; `value` is what model_fn returned, for the application to find."""
        self._value = value
        self._has_route = lru_cache(1024)(has_route)
        self._theirs = theirs

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._theirs is not None and self._has_route(environ["PATH_INFO"]):
            environ[MODEL_KEY] = self._value
            return self._theirs(environ, start_response)
        return self._ours(environ, start_response)


def import_application(spec: str, folders: Sequence[Path]) -> WSGIApplication:
    """The application that `module:object` names, from a code folder or an installed package.

    Raises UserCodeError for a name that is missing or no application, or whatever the module raises.
    """
    module_name, _, name = spec.partition(":")
    sys.path[:0] = [str(folder) for folder in folders if folder.is_dir() and str(folder) not in sys.path]
    module = importlib.import_module(module_name)
    application: WSGIApplication = find_callable(module, name or DEFAULT_OBJECT, "SAGEMAKER_SERVING_MODULE")
    return application


def find_application(folders: Sequence[Path], program: str) -> tuple[Path | None, bool]:
    """The file that defines `app` at its top level, in the first folder with code, and whether `program` is beside it.

    Only read, not run: a helper module that happens to be called predictor.py is nobody's application.
    """
    for folder in folders:
        has_program = (folder / program).is_file()
        files = [file for file in (folder / program, folder / PREDICTOR) if file.is_file()]
        if files:
            return next((file for file in files if _defines_app(file)), None), has_program
    return None, False


def load_application(file: Path) -> WSGIApplication:
    """The `app` of a file of the user's. Raises UserCodeError for one that is no WSGI application."""
    application: WSGIApplication = load_any_application(file)
    if is_asgi(application):
        raise UserCodeError(
            f"app in {file} is an ASGI application, which is served with BYOC_LANE=asgi, from a predictor.py without "
            "an inference.py beside it; or define a WSGI one."
        )
    return application


def load_any_application(file: Path) -> Any:
    """The same of either kind. Raises UserCodeError."""
    module = sys.modules.get(file.stem)
    if module is None or getattr(module, "__file__", None) != str(file):
        module = import_module(file)
    return find_callable(module, "app", file.name)


def is_asgi(application: Any) -> bool:
    """Whether an application is called with a scope, and awaited."""
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


def ask_ping(application: WSGIApplication) -> int:
    """The status with which an application answers GET /ping; 500 where it raises."""
    environ: WSGIEnvironment = {"PATH_INFO": "/ping", "REQUEST_METHOD": "GET"}
    setup_testing_defaults(environ)
    statuses = ["500"]

    def note(status: str, _headers: list[tuple[str, str]], *_rest: Any) -> Callable[[bytes], object]:
        statuses[0] = status
        return lambda _data: None

    try:
        body = application(environ, note)
        list(body)
        if hasattr(body, "close"):
            body.close()
    except Exception:
        log.exception("/ping of the application failed")
        return 500
    return int(statuses[0][:3])


def wait_until_healthy(application: WSGIApplication) -> None:
    """Until its own /ping answers 200: that may be what loads its model."""
    told = 0
    while (status := ask_ping(application)) != 200:
        if status != told:
            log.info("not ready: /ping of the application answers %d", status)
            told = status
        time.sleep(ASK_SECONDS)


def watch_health(application: WSGIApplication, healthy: Callable[[], None], ill: Callable[[], None]) -> None:
    """Go on asking, and tell: ill after three answers in turn that are not 200, healthy after the next that is."""
    threading.Thread(target=_look, args=(application, healthy, ill), name="application-health", daemon=True).start()


def _look(application: WSGIApplication, healthy: Callable[[], None], ill: Callable[[], None]) -> None:
    failures = 0
    while True:
        time.sleep(LOOK_SECONDS)
        status = ask_ping(application)
        if status == 200:
            if failures >= FAILURES:
                log.info("/ping of the application answers 200 again")
                healthy()
            failures = 0
            continue
        failures += 1
        if failures == FAILURES:
            log.warning("not ready: /ping of the application has answered %d, %d times in turn", status, FAILURES)
            ill()


def _defines_app(file: Path) -> bool:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return any("app" in _names(node) for node in tree.body)


def _names(node: ast.stmt) -> set[str]:
    """The names that a statement at a module's top level gives a meaning to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom | ast.Import):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}

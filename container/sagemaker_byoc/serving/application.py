"""An application of the user's: named as `module:object`, or an `app` in predictor.py or inference.py.

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
from sagemaker_byoc.serving.event_loops import give_loops
from sagemaker_byoc.serving.handlers import ARGUMENTS
from sagemaker_byoc.user_code import find_callable, import_module

DEFAULT_OBJECT = "main"
PREDICTOR = "predictor.py"
FRAMEWORKS = ("blacksheep", "fastapi", "litestar", "quart", "sanic", "starlette")  # of applications for an event loop
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


def import_application(spec: str, folders: Sequence[Path]) -> Any:
    """The application that `module:object` names, from a code folder or an installed package.

    Raises UserCodeError for a name that is missing or no application, or whatever the module raises.
    """
    module_name, _, name = spec.partition(":")
    sys.path[:0] = [str(folder) for folder in folders if folder.is_dir() and str(folder) not in sys.path]
    module = importlib.import_module(module_name)
    return find_callable(module, name or DEFAULT_OBJECT, "SAGEMAKER_SERVING_MODULE")


def find_application(folders: Sequence[Path], program: str) -> tuple[Path | None, bool]:
    """The file that defines `app` at its top level, in the first folder with code, and whether it stands alone: no
    `program` with functions that serve is there for it to stand beside.

    Only read, not run: a helper module that happens to be called predictor.py is nobody's application.
    """
    for folder in folders:
        if (folder / program).is_file():
            names = _names_in(folder / program)
            if "app" in names:
                return folder / program, names.isdisjoint((*ARGUMENTS, "*"))
            return (folder / PREDICTOR if "app" in _names_in(folder / PREDICTOR) else None), False
        if (folder / PREDICTOR).is_file():
            found = "app" in _names_in(folder / PREDICTOR)
            return (folder / PREDICTOR if found else None), found
    return None, False


def wants_event_loop(folders: Sequence[Path], program: str, spec: str | None) -> bool:
    """Whether an application that stands alone, or that `module:object` names, is plainly one for an event loop: made
    by a framework for those, or an `async` function. Only read, not run.
    """
    if spec:
        module, _, name = spec.partition(":")
        place = Path(*module.split("."))
        files = [folder / file for folder in folders for file in (place.with_suffix(".py"), place / "__init__.py")]
        found = next((file for file in files if file.is_file()), None)
        return found is not None and _is_for_event_loop(found, name or DEFAULT_OBJECT)
    found, alone = find_application(folders, program)
    return found is not None and alone and _is_for_event_loop(found, "app")


def load_application(file: Path) -> WSGIApplication:
    """The `app` of a file of the user's. Raises UserCodeError for one that is no WSGI application."""
    return check_kind(load_any_application(file), f"app in {file}")


def check_kind(application: Any, what: str) -> WSGIApplication:
    """The application. Raises UserCodeError for one that is for an event loop, where there is none."""
    if is_asgi(application):
        raise UserCodeError(
            f"{what} is an ASGI application, which is served with BYOC_LANE=asgi and stands alone: from a file without "
            "functions that serve, predict_fn for one; or define a WSGI application."
        )
    served: WSGIApplication = application
    return served


def load_any_application(file: Path) -> Any:
    """The same of either kind. Raises UserCodeError."""
    module = sys.modules.get(file.stem)
    if module is None or getattr(module, "__file__", None) != str(file):
        give_loops(file.parent)
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


def _names_in(file: Path) -> set[str]:
    """What a file defines at its top level; `*` for what it imports without saying."""
    return {name for node in _statements(file) for name in _names(node)}


def _is_for_event_loop(file: Path, name: str) -> bool:
    makers: set[str] = set()
    for node in _statements(file):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FRAMEWORKS:
            makers |= _names(node)
        elif isinstance(node, ast.Import):
            makers |= {alias.asname or alias.name for alias in node.names if alias.name.partition(".")[0] in FRAMEWORKS}
        elif name in _names(node):
            value = getattr(node, "value", None)
            maker = ast.unparse(value.func).partition(".")[0] if isinstance(value, ast.Call) else ""
            return isinstance(node, ast.AsyncFunctionDef) or maker in makers
    return False


def _statements(file: Path) -> list[ast.stmt]:
    try:
        return ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []


def _names(node: ast.stmt) -> set[str]:
    """The names that a statement at a module's top level gives a meaning to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.ImportFrom | ast.Import):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}

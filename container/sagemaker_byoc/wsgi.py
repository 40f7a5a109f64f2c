"""Composition root of a gunicorn worker: settings, a model that starts to load, and the app over it."""

import logging
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from wsgiref.types import WSGIApplication

from sagemaker_byoc.logs import configure_logs
from sagemaker_byoc.predictor import create_app
from sagemaker_byoc.serving.application import LoadingApplication, import_application
from sagemaker_byoc.serving.model import LoadingModel, Model
from sagemaker_byoc.serving.readiness import RUN_DIRECTORY, Readiness
from sagemaker_byoc.settings import ServeSettings

log = logging.getLogger(__name__)


def app() -> WSGIApplication:
    """Gunicorn's target: `sagemaker_byoc.wsgi:app()`. The model loads in a thread while /ping answers 503."""
    settings = ServeSettings.read(os.environ)
    configure_logs(settings.log_level)
    readiness = Readiness(Path(os.environ[RUN_DIRECTORY]))
    if settings.serving_module:
        return _users_application(settings.serving_module, settings, readiness)
    model = LoadingModel()
    _start_loading(lambda: model.finish(Model.load(settings)), model.fail, readiness, f"model {settings.paths.model}")
    return create_app(model, readiness, settings)


def _users_application(spec: str, settings: ServeSettings, readiness: Readiness) -> WSGIApplication:
    application = LoadingApplication()
    folders = [settings.paths.model / "code", settings.paths.code, settings.paths.image_code]
    _start_loading(
        lambda: application.finish(import_application(spec, folders)),
        application.fail,
        readiness,
        f"application {spec}",
    )
    return application


def _start_loading(load: Callable[[], None], fail: Callable[[str], None], readiness: Readiness, what: str) -> None:
    threading.Thread(target=_load, args=(load, fail, readiness, what), name="model-load", daemon=True).start()


def _load(load: Callable[[], None], fail: Callable[[str], None], readiness: Readiness, what: str) -> None:
    try:
        load()
    except BaseException as error:  # noqa: BLE001 - sys.exit in a user's module must not end the thread unseen
        reason = "".join(traceback.format_exception_only(error)).strip()
        log.error("%s could not be loaded, /ping stays 503: %s\n%s", what, reason, _users_trace(error))  # noqa: TRY400
        fail(reason.splitlines()[-1])
    else:
        readiness.mark_loaded(os.getpid())
        log.info("%s is loaded", what)


def _users_trace(error: BaseException) -> str:
    """The trace from the user's first frame on, the cause where a function of theirs was wrapped."""
    shown = error.__cause__ or error
    own = Path(__file__).parent
    frames = [f for f in traceback.extract_tb(shown.__traceback__) if own not in Path(f.filename).parents]
    frames = [f for f in frames if not f.filename.startswith("<frozen importlib")]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(shown)) if frames else ""

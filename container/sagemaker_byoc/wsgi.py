"""Composition root of a gunicorn worker: settings, a model that starts to load, and the application over it."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

from sagemaker_byoc.serving.access_lines import LoggedApplication
from sagemaker_byoc.serving.application import LoadingApplication, import_application
from sagemaker_byoc.serving.devices import assign, find_devices
from sagemaker_byoc.serving.gate import Gate
from sagemaker_byoc.serving.metrics import DIRECTORY, Metrics
from sagemaker_byoc.serving.model import LoadingModel, Model, code_folders
from sagemaker_byoc.serving.preload import modules_to_preload, preload
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.service import Service
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.shortcut import Shortcut

if TYPE_CHECKING:
    from sagemaker_byoc.serving.arbiter import Seat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPlan:
    """What each worker does with its slot."""

    settings: ServeSettings
    readiness: Readiness
    behind_nginx: bool

    def preload(self) -> None:
        """In the master, before the first fork: what all workers would import."""
        if self.settings.preload == "on":
            folders = [folder for folder in code_folders(self.settings) if (folder / self.settings.program).is_file()]
            preload(("numpy", *modules_to_preload(folder / self.settings.program for folder in folders[:1])))

    def prepare(self, seat: "Seat") -> None:
        """In the worker, before anything of the user's is imported: the accelerator of its slot."""
        os.environ.update(assign(seat.slot.number, find_devices(os.environ)))

    def load(self, seat: "Seat") -> WSGIApplication:
        """The worker's application; its model loads in a thread while /ping answers 503."""
        if self.settings.serving_module:
            return self._users_application(self.settings.serving_module, seat)
        model = LoadingModel()
        settings = replace(self.settings, device=self.settings.device or find_devices(os.environ).name)
        metrics = Metrics(Path(os.environ[DIRECTORY]), seat.slot.number)
        service = Service(model, self.readiness, settings, metrics, Gate(settings.threads, settings.queue))

        def load() -> None:
            started = time.monotonic()
            model.finish(Model.load(settings, metrics))
            metrics.model_loaded(time.monotonic() - started)

        self._start_loading(load, model.fail, seat, f"model {settings.paths.model}")
        service.watch.start()
        routes = _Routes(service)
        application = Shortcut(service, lambda: routes.app) if settings.shortcut else routes.app
        return application if self.behind_nginx else LoggedApplication(application)

    def _users_application(self, spec: str, seat: "Seat") -> WSGIApplication:
        application = LoadingApplication()
        folders = code_folders(self.settings)
        self._start_loading(
            lambda: application.finish(import_application(spec, folders)),
            application.fail,
            seat,
            f"application {spec}",
        )
        return application

    def _start_loading(self, load: Callable[[], None], fail: Callable[[str], None], seat: "Seat", what: str) -> None:
        threading.Thread(target=self._load, args=(load, fail, seat, what), name="model-load", daemon=True).start()

    def _load(self, load: Callable[[], None], fail: Callable[[str], None], seat: "Seat", what: str) -> None:
        try:
            load()
        except BaseException as error:  # noqa: BLE001 - sys.exit in a user's module must not end the thread unseen
            reason = "".join(traceback.format_exception_only(error)).strip()
            log.error("%s could not be loaded, /ping stays 503: %s\n%s", what, reason, _users_trace(error))  # noqa: TRY400
            fail(reason.splitlines()[-1])
            self.readiness.mark_failed(os.getpid())
        else:
            seat.publish()
            self.readiness.mark_loaded(os.getpid())
            log.info("%s is loaded", what)


@dataclass(frozen=True)
class _Routes:
    """The Flask app, made when the first request asks for it: it is of no use to a worker that is starting."""

    service: Service

    @cached_property
    def app(self) -> WSGIApplication:
        from sagemaker_byoc.predictor import create_app  # noqa: PLC0415

        return create_app(self.service)


def _users_trace(error: BaseException) -> str:
    """The trace from the user's first frame on, the cause where a function of theirs was wrapped."""
    shown = error.__cause__ or error
    own = Path(__file__).parent
    frames = [f for f in traceback.extract_tb(shown.__traceback__) if own not in Path(f.filename).parents]
    frames = [f for f in frames if not f.filename.startswith("<frozen importlib")]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(shown)) if frames else ""

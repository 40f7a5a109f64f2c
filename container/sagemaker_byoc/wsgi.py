"""Composition root of a gunicorn worker: settings, a model that starts to load, and the application over it."""

import contextlib
import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIApplication

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.serving import application as users
from sagemaker_byoc.serving import tracing, users_signals
from sagemaker_byoc.serving.access_lines import LoggedApplication
from sagemaker_byoc.serving.devices import assign, find_devices
from sagemaker_byoc.serving.gate import Gate
from sagemaker_byoc.serving.loading import Loading
from sagemaker_byoc.serving.metrics import DIRECTORY, Metrics
from sagemaker_byoc.serving.model import LoadingModel
from sagemaker_byoc.serving.model_loading import load_model
from sagemaker_byoc.serving.preload import modules_to_preload, preload
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.runtimes import choose_code, preloadable
from sagemaker_byoc.serving.service import Service
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.shortcut import Shortcut

if TYPE_CHECKING:
    from sagemaker_byoc.serving.arbiter import Seat
    from sagemaker_byoc.serving.many_models import ManyModels


@dataclass(frozen=True)
class WorkerPlan:
    """What each worker does with its slot."""

    settings: ServeSettings
    readiness: Readiness
    behind_nginx: bool

    def preload(self) -> None:
        """In the master, before the first fork: what all workers would import."""
        settings, paths = self.settings, self.settings.paths
        if settings.preload == "off":
            return
        try:
            choice = choose_code(
                settings.program, settings.own_folders, paths.image_code, paths.model, settings.runtime
            )
        except UserCodeError:
            return  # the worker will say so
        code = modules_to_preload([choice.program] if choice.program else [])
        preload(("numpy", *code, *(preloadable(paths.model) if choice.has_runtime else ())))

    def prepare(self, seat: "Seat") -> None:
        """In the worker, before anything of the user's is imported: the accelerator of its slot."""
        os.environ.update(assign(seat.slot.number, find_devices(os.environ)))
        with contextlib.suppress(OSError):  # if memory runs out, a worker is what the container can lose
            Path("/proc/self/oom_score_adj").write_text("200", encoding="ascii")

    def load(self, seat: "Seat") -> Any:
        """The worker's application; what it serves loads in a thread while /ping answers 503."""
        app_file, alone = users.find_application(self.settings.code_folders, self.settings.program)
        alone = alone and not self._stands_beside_a_runtime(app_file)
        if self.settings.lane == "asgi" and (self.settings.serving_module or alone):
            theirs = self._users_event_loop(app_file, seat)
            if theirs is not None:
                return theirs
        if self.settings.serving_module or alone:
            application, service = self._users_alone(self.settings.serving_module, app_file, seat), None
        else:
            service = self._service(seat)
            application = self._ours(service, app_file, seat)
        if self.settings.lane == "asgi":
            from sagemaker_byoc import asgi  # noqa: PLC0415 - the other lane needs none of it

            return asgi.application(application, service, self._answers_directly(app_file), self.behind_nginx)
        return application if self.behind_nginx else LoggedApplication(application)

    def _stands_beside_a_runtime(self, app_file: Path | None) -> bool:
        """Whether the application is in the program itself, which needs no functions for a model such as model.onnx."""
        settings, paths = self.settings, self.settings.paths
        if app_file is None or app_file.name != settings.program or settings.lane == "asgi":
            return False
        folders = settings.own_folders
        return choose_code(settings.program, folders, paths.image_code, paths.model, settings.runtime).has_runtime

    def _answers_directly(self, app_file: Path | None) -> bool:
        """Whether the event loop may run invocations: where they may wait for each other they need threads."""
        settings = self.settings
        return settings.shortcut and not (app_file or settings.multi_model or settings.sessions)

    def _ours(self, service: Service, app_file: Path | None, seat: "Seat") -> WSGIApplication:
        """The functions of inference.py, and an application of the user's beside them if there is one."""
        models = self._models(service) if self.settings.multi_model else None
        routes = _Routes(service, models)
        ours = Shortcut(service, lambda: routes.app) if self.settings.shortcut else routes.app
        beside = users.Beside(ours)

        def load() -> None:
            started = time.monotonic()
            if models is not None:
                models.begin(seat.waits, lambda: service.model.finish(self._with_sessions(models)))
                return
            model = load_model(service.settings, service.metrics)
            if app_file:
                beside.add(*self._users(app_file), model.value)
            service.model.finish(self._with_sessions(model))
            service.metrics.model_loaded(time.monotonic() - started)

        what = f"model {self.settings.paths.model}" if models is None else "the worker for many models"
        Loading(what, load, service.model.fail, seat.publish, self.readiness).start()
        service.watch.start()
        return beside if app_file else ours

    def _with_sessions(self, model: Any) -> Any:
        """What answers, a model or many, with sessions around it where the endpoint has them."""
        if not self.settings.sessions:
            return model
        from sagemaker_byoc.serving.session_requests import WithSessions  # noqa: PLC0415 - few endpoints have any
        from sagemaker_byoc.serving.sessions import open_sessions  # noqa: PLC0415

        if model.is_async:
            raise UserCodeError("inference.py has async functions, which cannot have sessions; make them plain ones.")
        return WithSessions(model, open_sessions(self.settings, self.readiness.folder))

    def _models(self, service: Service) -> "ManyModels":
        from sagemaker_byoc.serving.many_models import ManyModels  # noqa: PLC0415 - few endpoints have many
        from sagemaker_byoc.serving.model_registry import ModelRegistry  # noqa: PLC0415
        from sagemaker_byoc.serving.model_store import ModelStore  # noqa: PLC0415

        settings = replace(service.settings, lane="wsgi")
        store = ModelStore(settings, lambda one, import_code: load_model(one, service.metrics, import_code))
        return ManyModels(settings, ModelRegistry(self.readiness.folder / "models"), store)

    def _service(self, seat: "Seat") -> Service:
        settings = replace(self.settings, device=self.settings.device or find_devices(os.environ).name)
        metrics = Metrics(Path(os.environ[DIRECTORY]), seat.slot.number)
        kind: type[Service] = Service
        if settings.lane == "asgi":
            from sagemaker_byoc.serving.async_service import AsyncService as kind  # noqa: PLC0415, N813
        return kind(
            LoadingModel(),
            self.readiness,
            settings,
            metrics,
            Gate(settings.threads, settings.places - settings.threads),
            tracing.start(os.environ),
        )

    def _users_alone(self, spec: str | None, app_file: Path | None, seat: "Seat") -> WSGIApplication:
        """An application of the user's that answers every path."""
        application = users.LoadingApplication()
        folders = self.settings.code_folders

        def load() -> None:
            if spec:
                application.finish(users.check_kind(users.import_application(spec, folders), spec))
            elif app_file:
                theirs, _ = self._users(app_file)
                application.finish(theirs)

        Loading(f"application {spec or app_file}", load, application.fail, seat.publish, self.readiness).start()
        return application

    def _users_event_loop(self, app_file: Path | None, seat: "Seat") -> Any:
        """An ASGI application of the user's, imported at once because the worker's loop runs its start-up; None for
        another, or for one that cannot be imported, which is told in the way of all others.
        """
        from sagemaker_byoc.serving.asgi_application import UsersApplication  # noqa: PLC0415 - of this lane only

        spec = self.settings.serving_module
        try:
            with users_signals.passed_over():
                if spec:
                    theirs: Any = users.import_application(spec, self.settings.code_folders)
                else:
                    theirs = users.load_any_application(app_file) if app_file else None
        except (Exception, SystemExit):  # noqa: BLE001 - it is imported again where that is told
            return None
        return UsersApplication(theirs, self.readiness, seat.publish) if users.is_asgi(theirs) else None

    def _users(self, app_file: Path) -> tuple[WSGIApplication, Any]:
        """The application and what tells its routes, when its own /ping, if it has one, calls it healthy."""
        from sagemaker_byoc.predictor import route_finder  # noqa: PLC0415

        theirs = users.load_application(app_file)
        has_route = route_finder(theirs)
        if has_route("/ping"):
            users.wait_until_healthy(theirs)
            pid = os.getpid()
            users.watch_health(
                theirs, lambda: self.readiness.mark_loaded(pid), lambda: self.readiness.take_mark_away(pid)
            )
        return theirs, has_route


@dataclass(frozen=True)
class _Routes:
    """The Flask app, made when the first request asks for it: it is of no use to a worker that is starting."""

    service: Service
    models: "ManyModels | None"

    @cached_property
    def app(self) -> WSGIApplication:
        from sagemaker_byoc.predictor import create_app  # noqa: PLC0415
        from sagemaker_byoc.serving.model_routes import ModelRoutes  # noqa: PLC0415

        return create_app(self.service, ModelRoutes(self.models) if self.models else None)

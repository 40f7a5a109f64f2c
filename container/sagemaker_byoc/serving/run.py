"""`serve`: plan nginx and gunicorn, then supervise them."""

import logging
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sagemaker_byoc import processes
from sagemaker_byoc.errors import EXIT_BUG, ByocError, Stopped
from sagemaker_byoc.logs import configure_logs
from sagemaker_byoc.serving import gunicorn, nginx
from sagemaker_byoc.serving.access_log import AccessLog
from sagemaker_byoc.serving.open_files import allow_open_files
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.run_folder import make_run_folder
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.supervisor import ServerPlan, Supervisor

log = logging.getLogger(__name__)


def main() -> int:
    """Serve until stopped; returns the exit code of the container."""
    try:
        settings = ServeSettings.read(os.environ)
        _forget(gunicorn.hidden_names(settings))
        configure_logs(settings.log_level)
        with processes.blocked_signals():
            environ = _provide_packages(settings, os.environ)
            return serve(choose_lane(settings, environ), environ)
    except Stopped:
        log.info("stopped while packages were being installed")
        return 0
    except ByocError as error:
        print(f"sagemaker-byoc: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last line of defence: the log must hold the reason
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        return EXIT_BUG


def serve(settings: ServeSettings, environ: Mapping[str, str]) -> int:
    """Render, start, supervise. Raises ByocError before anything has started."""
    front = nginx.find_nginx(settings)
    allow_open_files()
    run = make_run_folder()
    try:
        (run / "metrics").mkdir()
        plans = plan_servers(settings, environ, run, front)
        if front:
            (run / "nginx.conf").write_text(nginx.render(settings, run), encoding="utf-8")
        log.info(
            "serving on port %d with %d workers of %d threads, %s",
            settings.port,
            settings.workers,
            settings.threads,
            "behind nginx" if front else "without nginx",
        )
        access_log = AccessLog(run / "access.log") if front else None
        try:
            return Supervisor(plans, Readiness(run), settings.workers).run()
        finally:
            if access_log:
                access_log.close()
    finally:
        shutil.rmtree(run, ignore_errors=True)
        if settings.sessions:
            from sagemaker_byoc.serving.sessions import own_folder  # noqa: PLC0415 - few endpoints have any

            shutil.rmtree(own_folder(run), ignore_errors=True)


def _provide_packages(settings: ServeSettings, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment in which what lies beside the code as requirements.txt is met. Raises ByocError."""
    if not settings.multi_model and not any((folder / "requirements.txt").is_file() for folder in settings.own_folders):
        return environ
    from sagemaker_byoc.serving.model_packages import install_for_endpoint  # noqa: PLC0415 - most bring none

    return install_for_endpoint(settings, environ)


def choose_lane(settings: ServeSettings, environ: Mapping[str, str]) -> ServeSettings:
    """An application of the user's that is for an event loop gets one, where nobody has said which lane it is to be."""
    if environ.get("BYOC_LANE", "").strip() or settings.multi_model:
        return settings
    files = (folder / name for folder in settings.code_folders for name in (settings.program, "predictor.py"))
    may_be_one = any(re.search(rb"\bapp\b", file.read_bytes()) for file in files if file.is_file())
    if not may_be_one and not settings.serving_module:
        return settings
    from sagemaker_byoc.serving.application import wants_event_loop  # noqa: PLC0415 - most have none

    asked = wants_event_loop(settings.code_folders, settings.program, settings.serving_module)
    return replace(settings, lane="asgi") if asked else settings


def _forget(hidden: frozenset[str]) -> None:
    """Begin anew without these variables: user code can read the environment that this process was started with."""
    if not hidden.isdisjoint(os.environ):
        rest = {name: value for name, value in os.environ.items() if name not in hidden}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], rest)


def plan_servers(settings: ServeSettings, environ: Mapping[str, str], run: Path, front: str | None) -> list[ServerPlan]:
    """What will run, front door first."""
    workers = ServerPlan(
        name="gunicorn",
        command=tuple(gunicorn.command()),
        environ=gunicorn.environment(settings, environ, run, behind_nginx=front is not None),
        drain_signal=signal.SIGTERM,
    )
    if front is None:
        return [workers]
    door = ServerPlan("nginx", tuple(nginx.command(front, run)), dict(environ), drain_signal=signal.SIGQUIT)
    return [door, workers]

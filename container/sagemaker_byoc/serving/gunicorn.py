"""gunicorn's options and environment, from the settings; `python -m sagemaker_byoc.serving.gunicorn` is its master."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sagemaker_byoc.onnx_import import NO_TELEMETRY
from sagemaker_byoc.serving.deadlines import DRAIN_SECONDS, Limits
from sagemaker_byoc.serving.metrics import DIRECTORY
from sagemaker_byoc.serving.readiness import RUN_DIRECTORY, Readiness
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.settings import available_cpus

BEHIND_NGINX = "BYOC_BEHIND_NGINX"  # set by the supervisor for gunicorn, not by users
# Math libraries read these when they are imported, and take every core of the host when they are absent.
MATH_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
THREAD_WORKER = "sagemaker_byoc.serving.thread_worker.StayingThreadWorker"
LOOP_WORKER = "sagemaker_byoc.serving.loop_worker.LoopWorker"
MESSAGE_BYTES = 25 << 20  # of a stream in both directions, as of a request that is answered in real time
SPARE_THREADS = 4  # without nginx these answer /ping while every other thread is busy
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
CREDENTIAL_SOURCES = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
)


def command() -> list[str]:
    """What the supervisor starts. Nothing is imported from the folder that the container happens to start in."""
    return [sys.executable, "-P", "-m", "sagemaker_byoc.serving.gunicorn"]


def options(settings: ServeSettings, run: Path, behind_nginx: bool) -> dict[str, Any]:
    """Gunicorn's settings. Behind nginx it has the slots' sockets only, else the port too, with threads to spare."""
    asgi = settings.lane == "asgi"
    threads = settings.places if behind_nginx else settings.places + SPARE_THREADS
    return {
        "bind": [] if behind_nginx else [f"{settings.bind_host}:{settings.port}"],
        "worker_class": LOOP_WORKER if asgi else THREAD_WORKER,
        "workers": settings.workers,
        "threads": 1 if asgi else threads,
        "timeout": round(limits(settings).loading),
        "graceful_timeout": DRAIN_SECONDS,
        "keepalive": 75,  # longer than nginx keeps an idle connection, so that it never writes into a closed one
        "worker_tmp_dir": _memory_folder(run),
        "loglevel": "warning",
        "control_socket_disable": True,
        # Nobody in front is believed more than the caller: no header sets the path or the scheme.
        "forwarder_headers": "",
        "forwarded_allow_ips": "",
        "secure_scheme_headers": {},
        # On the event loop the C parser takes lengths beyond 64 bits for short ones; nginx lets none of these through.
        "http_parser": "python" if asgi and not behind_nginx else "auto",
        "websocket_max_message_size": MESSAGE_BYTES,
    }


def limits(settings: ServeSettings) -> Limits:
    """How long a worker may stand still: a prediction may hold Python's lock as long as a request may take."""
    return Limits(loading=settings.model_load_timeout, serving=max(settings.silent_seconds, settings.timeout + 1))


def hidden_names(settings: ServeSettings) -> frozenset[str]:
    """The variables that user code is not to see."""
    return frozenset((*CREDENTIALS, *CREDENTIAL_SOURCES)) if settings.hide_credentials else frozenset()


def environment(settings: ServeSettings, environ: Mapping[str, str], run: Path, behind_nginx: bool) -> dict[str, str]:
    """The workers' environment. What the user has set stays."""
    threads = str(max(1, available_cpus() // settings.workers))
    hidden = hidden_names(settings)
    return {
        **dict.fromkeys(MATH_THREADS, threads),
        **{name: value for name, value in environ.items() if name not in hidden},
        "BYOC_LANE": settings.lane,  # which may have been chosen for an application of the user's
        RUN_DIRECTORY: str(run),
        DIRECTORY: str(run / "metrics"),
        BEHIND_NGINX: "1" if behind_nginx else "",
        NO_TELEMETRY: "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the model's folder, with code in it, is read-only
    }


def _memory_folder(run: Path) -> str:
    """Heartbeat files belong in memory: on a slow disk a healthy worker can look dead."""
    shared = Path("/dev/shm")  # noqa: S108 - gunicorn makes its own unnamed file in it
    return str(shared if os.access(shared, os.W_OK) else run)


def main() -> None:
    """Be gunicorn's master until told to stop."""
    from sagemaker_byoc import wsgi  # noqa: PLC0415 - the supervisor plans with this module, and needs none of these
    from sagemaker_byoc.logs import configure_logs  # noqa: PLC0415
    from sagemaker_byoc.serving.arbiter import Server  # noqa: PLC0415
    from sagemaker_byoc.serving.slots import slots  # noqa: PLC0415

    settings = ServeSettings.read(os.environ)
    configure_logs(settings.log_level)
    run = Path(os.environ[RUN_DIRECTORY])
    behind_nginx = bool(os.environ[BEHIND_NGINX])
    readiness = Readiness(run)
    worker = wsgi.WorkerPlan(settings, readiness, behind_nginx)
    worker.preload()
    Server(
        options(settings, run, behind_nginx),
        slots(run, settings.workers),
        readiness,
        limits(settings),
        load=worker.load,
        prepare=worker.prepare,
    ).run()


if __name__ == "__main__":
    main()

"""gunicorn's command line and environment, from the settings."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sagemaker_byoc.serving.deadlines import DRAIN_SECONDS
from sagemaker_byoc.serving.readiness import RUN_DIRECTORY
from sagemaker_byoc.settings import ServeSettings, available_cpus

# Math libraries read these when they are imported, and take every core of the host when they are absent.
MATH_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
SPARE_THREADS = 4  # without nginx these answer /ping while every other thread is busy


def command(settings: ServeSettings, run: Path, behind_nginx: bool) -> list[str]:
    """Behind nginx on a unix socket, else on the port itself with threads to spare for /ping."""
    bind = f"unix:{run}/gunicorn.sock" if behind_nginx else f"{settings.bind_host}:{settings.port}"
    threads = settings.threads if behind_nginx else settings.threads + settings.queue + SPARE_THREADS
    options = {
        "bind": bind,
        "worker-class": "gthread",
        "workers": settings.workers,
        "threads": threads,
        # A worker's main loop, not a request, must stay silent this long; loading in a thread may hold the GIL.
        "timeout": round(max(settings.timeout, settings.model_load_timeout)),
        "graceful-timeout": DRAIN_SECONDS,
        "keep-alive": 75,  # longer than nginx keeps an idle connection, so that it never writes into a closed one
        "worker-tmp-dir": _memory_folder(run),
        "log-level": "warning",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "gunicorn", *flags, "--no-control-socket", "sagemaker_byoc.wsgi:app()"]


def environment(settings: ServeSettings, environ: Mapping[str, str], run: Path) -> dict[str, str]:
    """The workers' environment. What the user has set stays."""
    threads = str(max(1, available_cpus() // settings.workers))
    return {
        **dict.fromkeys(MATH_THREADS, threads),
        **environ,
        RUN_DIRECTORY: str(run),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the model's folder, with code in it, is read-only
    }


def _memory_folder(run: Path) -> Path:
    """Heartbeat files belong in memory: on a slow disk a healthy worker can look dead."""
    shared = Path("/dev/shm")  # noqa: S108 - gunicorn makes its own unnamed file in it
    return shared if os.access(shared, os.W_OK) else run

"""What this machine has and lacks for each way of running jobs, with what to do about each lack."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from local_sagemaker.base_image import BASE_IMAGE_TAG
from local_sagemaker.doctor_check import Check, Need
from local_sagemaker.doctor_engine import docker_checks
from local_sagemaker.engines import docker_answers, free_port
from local_sagemaker.engines.base import SHM_BYTES
from local_sagemaker.engines.gpus import nvidia_devices
from local_sagemaker.errors import UsageError
from local_sagemaker.image import DEFAULT_TAG, OFFICIAL_BASE, image_exists

OLDEST_PYTHON = (3, 11)
FREE_GIB = 5
GIB = 1024**3
MIB = 1024**2


def examine(port: int = 8080) -> tuple[Check, ...]:
    """Look at this machine. Changes nothing; takes a second or two."""
    engine = docker_answers()
    return (
        _python(),
        _disk(),
        _shm(),
        _port(port),
        _gpu(),
        Check("docker engine", engine, "answers" if engine else "does not answer", "docker", "start Docker"),
        _command("docker", "docker", "apt-get install docker.io"),
        *(docker_checks() if engine else ()),
        *(_images() if engine and shutil.which("docker") else ()),
        _command("mmdebstrap", "optional", "apt-get install mmdebstrap (makes a base image without a registry)"),
        _package("sagemaker_byoc", "process", "pip install -e . in the checkout"),
        _package("flask", "process", "pip install -e '.[local]' in the checkout"),
        _package("gunicorn", "process", "pip install -e '.[local]' in the checkout"),
        _package("torch", "optional", "pip install torch (the template's model needs it outside of the image)"),
        _command("nginx", "optional", "apt-get install nginx-light (gunicorn alone serves without it)"),
    )


def usable_engines(checks: Iterable[Check]) -> tuple[str, ...]:
    """The engines for which nothing is missing."""
    failed = {check.needed_for for check in checks if not check.ok}
    return tuple(engine for engine in ("docker", "process") if not failed & {"both", engine})


def _python() -> Check:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check(
        "python",
        sys.version_info >= OLDEST_PYTHON,
        f"{platform.python_version()}, {sys.executable}",
        "both",
        f"use Python {wanted} or newer",
    )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    return Check("disk", free >= FREE_GIB, f"{free:.0f} GiB free here", "optional", f"free {FREE_GIB} GiB")


def _shm() -> Check:
    folder = Path("/dev/shm")  # noqa: S108 - it is what is looked at
    if not folder.is_dir():
        return Check("shm", True, "this system has no /dev/shm", "optional")
    free = shutil.disk_usage(folder).free
    return Check(
        "shm", free >= SHM_BYTES, f"{free / MIB:.0f} MiB free in /dev/shm", "optional", "free it: processes share it"
    )


def _gpu() -> Check:
    devices = nvidia_devices()
    found = f"NVIDIA {', '.join(devices)}" if devices else "none: jobs and endpoints use the CPU"
    return Check("gpu", True, found, "optional")


def _port(port: int) -> Check:
    try:
        free_port(port)
    except UsageError:
        return Check(
            f"port {port}", ok=False, found="taken", needed_for="optional", next_step="use `byoc serve --port 0`"
        )
    return Check(f"port {port}", ok=True, found="free", needed_for="optional")


def _command(name: str, needed_for: Need, install: str) -> Check:
    path = shutil.which(name)
    return Check(name, path is not None, path or "not on PATH", needed_for, install)


def _package(name: str, needed_for: Need, install: str) -> Check:
    spec = importlib.util.find_spec(name)
    return Check(name, spec is not None, "importable" if spec else "not installed", needed_for, install)


def _images() -> tuple[Check, ...]:
    base = next((tag for tag in (OFFICIAL_BASE, BASE_IMAGE_TAG) if image_exists(tag)), None)
    built = image_exists(DEFAULT_TAG)
    return (
        Check(
            "base image",
            base is not None,
            base or "none here",
            "optional",
            "`byoc base-image`, or let `byoc build` pull",
        ),
        Check("image", built, f"{DEFAULT_TAG} {'is here' if built else 'is not built'}", "docker", "`byoc build`"),
    )

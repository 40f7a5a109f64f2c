"""All settings, read once from the environment; a wrong value stops the start with a sentence that names it."""

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.paths import DEFAULT_BASE, DEFAULT_IMAGE_CODE, MLPaths

CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class TrainSettings:
    """What the environment says about running a training job."""

    paths: MLPaths
    program: str | None
    training_module: str | None
    submit_directory: str | None
    log_level: int
    stop_grace_seconds: float
    toolkit_compatible: bool = False
    install_requirements: bool = True
    wait_for_hosts: bool = True
    dns_timeout_seconds: float = 900.0
    host_timeout_seconds: float = 10.0
    control_port: int = 7776
    master_port: int = 7777
    ssh_port: int = 7778
    max_restarts: int = 0

    VARIABLES = (
        "SAGEMAKER_BASE_DIR",
        "SAGEMAKER_PROGRAM",
        "SAGEMAKER_TRAINING_MODULE",
        "SAGEMAKER_SUBMIT_DIRECTORY",
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "SM_STUDIO_LOCAL_MODE",
        "BYOC_IMAGE_CODE_DIR",
        "BYOC_STOP_GRACE_SECONDS",
        "BYOC_COMPATIBILITY",
        "BYOC_INSTALL_REQUIREMENTS",
        "BYOC_DNS_TIMEOUT_SECONDS",
        "BYOC_HOST_TIMEOUT_SECONDS",
        "BYOC_CONTROL_PORT",
        "BYOC_MASTER_PORT",
        "BYOC_SSH_PORT",
        "BYOC_MAX_RESTARTS",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "TrainSettings":
        """Raises PlatformInputError for a value that cannot be used."""
        return cls(
            paths=read_paths(environ),
            program=environ.get("SAGEMAKER_PROGRAM") or None,
            training_module=environ.get("SAGEMAKER_TRAINING_MODULE") or None,
            submit_directory=environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or None,
            log_level=_integer(environ, "SAGEMAKER_CONTAINER_LOG_LEVEL", logging.INFO, minimum=0),
            stop_grace_seconds=_seconds(environ, "BYOC_STOP_GRACE_SECONDS", 110.0),
            toolkit_compatible=_choice(environ, "BYOC_COMPATIBILITY", ("none", "toolkit")) == "toolkit",
            install_requirements=_choice(environ, "BYOC_INSTALL_REQUIREMENTS", ("on", "off")) == "on",
            wait_for_hosts=environ.get("SM_STUDIO_LOCAL_MODE", "").strip().lower() not in ("true", "1"),
            dns_timeout_seconds=_seconds(environ, "BYOC_DNS_TIMEOUT_SECONDS", 900.0),
            host_timeout_seconds=_seconds(environ, "BYOC_HOST_TIMEOUT_SECONDS", 10.0),
            control_port=_integer(environ, "BYOC_CONTROL_PORT", 7776, minimum=1, maximum=65535),
            master_port=_integer(environ, "BYOC_MASTER_PORT", 7777, minimum=1, maximum=65535),
            ssh_port=_integer(environ, "BYOC_SSH_PORT", 7778, minimum=1, maximum=65535),
            max_restarts=_integer(environ, "BYOC_MAX_RESTARTS", 0, minimum=0),
        )


@dataclass(frozen=True)
class ServeSettings:
    """What the environment says about serving; times in seconds."""

    paths: MLPaths
    program: str
    port: int
    bind_host: str
    workers: int
    threads: int
    queue: int
    timeout: float
    model_load_timeout: float
    default_accept: str
    nginx: str
    log_level: int
    serving_module: str | None = None

    VARIABLES = (
        "SAGEMAKER_BASE_DIR",
        "SAGEMAKER_PROGRAM",
        "SAGEMAKER_SERVING_MODULE",
        "SAGEMAKER_SERVICE_MODULE",
        "SAGEMAKER_BIND_TO_PORT",
        "SAGEMAKER_MODEL_SERVER_WORKERS",
        "SAGEMAKER_MODEL_SERVER_TIMEOUT",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT",
        "SAGEMAKER_CONTAINER_LOG_LEVEL",
        "MODEL_SERVER_WORKERS",
        "MODEL_SERVER_TIMEOUT",
        "BYOC_IMAGE_CODE_DIR",
        "BYOC_BIND_HOST",
        "BYOC_THREADS",
        "BYOC_QUEUE_LIMIT",
        "BYOC_MODEL_LOAD_TIMEOUT",
        "BYOC_NGINX",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "ServeSettings":
        """Raises PlatformInputError for a value that cannot be used."""
        workers = _first(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", "MODEL_SERVER_WORKERS")
        timeout = _first(environ, "SAGEMAKER_MODEL_SERVER_TIMEOUT", "MODEL_SERVER_TIMEOUT")
        return cls(
            paths=read_paths(environ),
            program=environ.get("SAGEMAKER_PROGRAM") or "inference.py",
            port=_integer(environ, "SAGEMAKER_BIND_TO_PORT", 8080, minimum=1, maximum=65535),
            bind_host=environ.get("BYOC_BIND_HOST") or "0.0.0.0",  # noqa: S104 - the platform connects from outside
            workers=_integer(environ, workers, available_cpus(), minimum=1),
            threads=_integer(environ, "BYOC_THREADS", 8, minimum=1),
            queue=_integer(environ, "BYOC_QUEUE_LIMIT", 64, minimum=0),
            timeout=_seconds(environ, timeout, 60.0),
            model_load_timeout=_seconds(environ, "BYOC_MODEL_LOAD_TIMEOUT", 480.0),
            default_accept=_media_type(environ, "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json"),
            nginx=_choice(environ, "BYOC_NGINX", ("auto", "on", "off")),
            log_level=_integer(environ, "SAGEMAKER_CONTAINER_LOG_LEVEL", logging.INFO, minimum=0),
            serving_module=_module_name(
                environ, _first(environ, "SAGEMAKER_SERVING_MODULE", "SAGEMAKER_SERVICE_MODULE")
            ),
        )


def read_paths(environ: Mapping[str, str]) -> MLPaths:
    """The folders, where SAGEMAKER_BASE_DIR and BYOC_IMAGE_CODE_DIR may replace the platform's."""
    return MLPaths(
        base=Path(environ.get("SAGEMAKER_BASE_DIR") or DEFAULT_BASE).absolute(),
        image_code=Path(environ.get("BYOC_IMAGE_CODE_DIR") or DEFAULT_IMAGE_CODE).absolute(),
    )


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Cores this container may use: its affinity, or less where a cgroup (v2 or v1) sets a quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _cgroup_quota(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        return None if limit in ("max", "-1") else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _first(environ: Mapping[str, str], *names: str) -> str:
    """The first of several names for one setting that is set, else the first."""
    return next((name for name in names if environ.get(name)), names[0])


def _integer(environ: Mapping[str, str], name: str, default: int, minimum: int, maximum: int | None = None) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    expected = f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
    try:
        value = int(text)
    except ValueError:
        raise PlatformInputError(_wrong(name, text, expected)) from None
    if value < minimum or (maximum is not None and value > maximum):
        raise PlatformInputError(_wrong(name, text, expected))
    return value


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise PlatformInputError(_wrong(name, text, "a number of seconds above 0"))
    return value


def _choice(environ: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    text = environ.get(name, "").strip().lower()
    if not text:
        return choices[0]
    if text not in choices:
        raise PlatformInputError(_wrong(name, text, "one of " + ", ".join(choices)))
    return text


def _module_name(environ: Mapping[str, str], name: str) -> str | None:
    text = environ.get(name, "").strip()
    dotted = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
    if text and not re.fullmatch(rf"{dotted}(:{dotted})?", text):
        raise PlatformInputError(_wrong(name, text, "module:object, such as my_package.app:app"))
    return text or None


def _media_type(environ: Mapping[str, str], name: str, default: str) -> str:
    text = environ.get(name, "").strip()
    if text and not re.fullmatch(r"[\w.+*-]+/[\w.+*-]+( *;.*)?", text):
        raise PlatformInputError(_wrong(name, text, f"a content type such as {default}"))
    return text or default


def _wrong(name: str, value: str, expected: str) -> str:
    return f"environment variable {name} is {value!r}; expected {expected}. Set it right or leave it out."

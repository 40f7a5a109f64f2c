"""Settings, read once from the environment; a wrong value stops the start with a sentence that names it."""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.environment import read_choice, read_integer, read_seconds
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
            log_level=read_integer(environ, "SAGEMAKER_CONTAINER_LOG_LEVEL", logging.INFO, minimum=0),
            stop_grace_seconds=read_seconds(environ, "BYOC_STOP_GRACE_SECONDS", 110.0),
            toolkit_compatible=read_choice(environ, "BYOC_COMPATIBILITY", ("none", "toolkit")) == "toolkit",
            install_requirements=read_choice(environ, "BYOC_INSTALL_REQUIREMENTS", ("on", "off")) == "on",
            wait_for_hosts=environ.get("SM_STUDIO_LOCAL_MODE", "").strip().lower() not in ("true", "1"),
            dns_timeout_seconds=read_seconds(environ, "BYOC_DNS_TIMEOUT_SECONDS", 900.0),
            host_timeout_seconds=read_seconds(environ, "BYOC_HOST_TIMEOUT_SECONDS", 10.0),
            control_port=read_integer(environ, "BYOC_CONTROL_PORT", 7776, minimum=1, maximum=65535),
            master_port=read_integer(environ, "BYOC_MASTER_PORT", 7777, minimum=1, maximum=65535),
            ssh_port=read_integer(environ, "BYOC_SSH_PORT", 7778, minimum=1, maximum=65535),
            max_restarts=read_integer(environ, "BYOC_MAX_RESTARTS", 0, minimum=0),
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

"""What ``byoc doctor`` finds out about the Docker engine, from what the engine says of itself."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from local_sagemaker.conformance.leftovers import remove_abandoned
from local_sagemaker.doctor_check import Check
from local_sagemaker.engines import DockerEngine, FoundContainer
from local_sagemaker.engines.gpus import nvidia_devices
from local_sagemaker.state.workspace import SESSION_LABEL

OLDEST_ENGINE = (20, 10)
FREE_GIB = 10
GIB = 1024**3
# AWS refuses requests whose time is further off than five minutes; a virtual machine that slept is off by more.
CLOCK_SECONDS = 5.0


def docker_checks() -> tuple[Check, ...]:
    """Look at the engine that answers, and remove what a ``byoc check`` that was killed has left in it."""
    engine = DockerEngine.connect()
    asked = time.time()
    info = engine.client.info()
    return (
        *engine_checks(info, (asked + time.time()) / 2),
        leftovers(engine.find({SESSION_LABEL: None})),
        leftovers_of_checks(remove_abandoned(engine.client)),
    )


def engine_checks(info: Mapping[str, Any], now: float, devices: tuple[str, ...] | None = None) -> tuple[Check, ...]:
    """What the engine's own description tells.

    Args:
        info: what ``docker info`` answers.
        now: this machine's time, in seconds since the epoch.
        devices: this machine's NVIDIA GPUs; by default looked up.
    """
    return (
        _version(str(info.get("ServerVersion", ""))),
        _rootless(info.get("SecurityOptions") or ()),
        _platform(str(info.get("OSType", "")), str(info.get("Architecture", ""))),
        *_disk(Path(info.get("DockerRootDir", ""))),
        *_gpus(info, nvidia_devices() if devices is None else devices),
        _clock(str(info.get("SystemTime", "")), now),
    )


def leftovers(containers: Iterable[FoundContainer]) -> Check:
    """Containers of ours that do not run, which every run removes at its end."""
    dead = [container for container in containers if not container.running]
    return Check(
        "leftovers",
        not dead,
        f"{len(dead)} containers of runs that were killed" if dead else "none",
        "optional",
        f"`byoc ps` in their projects, or `docker container prune --filter label={SESSION_LABEL}`",
    )


def leftovers_of_checks(removed: int) -> Check:
    """Containers and networks of a check that was killed: nobody wants them, so that they are removed at once."""
    return Check("left by checks", True, f"{removed} removed" if removed else "none", "optional")


def _version(text: str) -> Check:
    numbers = tuple(int(part) for part in re.findall(r"[0-9]+", text)[:2])
    wanted = ".".join(map(str, OLDEST_ENGINE))
    return Check("docker version", numbers >= OLDEST_ENGINE, text, "docker", f"install Docker {wanted} or newer")


def _rootless(options: Iterable[str]) -> Check:
    rootless = "name=rootless" in options
    # Both are well: it only tells whose the files are that a container's root writes.
    return Check("docker root", True, "rootless" if rootless else "the engine runs as root", "optional")


def _platform(system: str, architecture: str) -> Check:
    return Check(
        "docker platform",
        system == "linux" and architecture in {"x86_64", "amd64"},
        f"{system}/{architecture}",
        "optional",
        "images for SageMaker are linux/amd64: build with --platform linux/amd64; they run slowly here",
    )


def _disk(root: Path) -> tuple[Check, ...]:
    if not root.is_absolute() or not root.is_dir():
        return ()  # the engine's disk is another machine's
    free = shutil.disk_usage(root).free / GIB
    found = f"{free:.0f} GiB free in {root}"
    return (Check("docker disk", free >= FREE_GIB, found, "optional", f"free {FREE_GIB} GiB: `docker system prune`"),)


def _gpus(info: Mapping[str, Any], devices: tuple[str, ...]) -> tuple[Check, ...]:
    if not devices:
        return ()
    runtime = any("nvidia" in str(name).lower() for name in (info.get("Runtimes") or {}))
    able = runtime or bool(info.get("DiscoveredDevices"))
    found = "containers can have them" if able else "containers cannot have them"
    return (Check("docker gpu", able, found, "optional", "install the NVIDIA container toolkit"),)


def _clock(text: str, now: float) -> Check:
    # Python reads microseconds, the engine tells nanoseconds.
    stamp = re.sub(r"(\.[0-9]{6})[0-9]*", r"\1", text)
    try:
        off = datetime.fromisoformat(stamp).timestamp() - now
    except ValueError:
        return Check("docker clock", True, "not told", "optional")
    return Check(
        "docker clock",
        abs(off) <= CLOCK_SECONDS,
        f"{off:+.1f} s from this machine's",
        "optional",
        "set both clocks, or start Docker again: AWS refuses requests of another time",
    )

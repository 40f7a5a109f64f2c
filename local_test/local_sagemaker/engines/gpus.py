"""GPUs of this machine: which ones a plan means, and a refusal where there are none; never the CPU instead."""

from __future__ import annotations

import re
from pathlib import Path

from local_sagemaker.errors import EngineMissingError, UsageError

DEVICES = Path("/dev")


def parse_gpus(text: str) -> int | tuple[str, ...]:
    """A number of GPUs, -1 for all, or the names of those that are meant.

    Raises:
        UsageError: if ``text`` is neither ``all``, a number from 1, nor ``device=0,1``.
    """
    if text == "all":
        return -1
    if re.fullmatch(r"[1-9][0-9]?", text):
        return int(text)
    devices = tuple(text.removeprefix("device=").split(","))
    if text.startswith("device=") and all(devices):
        return devices
    raise UsageError(f"--gpus {text!r} names no GPUs", "expected all, a number, or device=0,1", "write --gpus all")


def nvidia_devices(devices: Path = DEVICES) -> tuple[str, ...]:
    """The NVIDIA GPUs that the driver shows, numbered from 0 as CUDA does, whatever the devices' own numbers."""
    found = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia[0-9]+", path.name)]
    return tuple(map(str, range(len(found))))


def gpu_variables(text: str | None, devices: Path = DEVICES) -> dict[str, str]:
    """What tells a plain process which GPUs are its own.

    Raises:
        EngineMissingError: if this machine lacks them.
        UsageError: if ``text`` cannot be read.
    """
    if text is None:
        return {}
    wanted = parse_gpus(text)
    have = nvidia_devices(devices)
    if isinstance(wanted, tuple):
        chosen = wanted
        lacking = any(name.isdigit() and name not in have for name in wanted) or not have
    else:
        chosen = have if wanted == -1 else have[:wanted]
        lacking = not have or len(chosen) < wanted
    if lacking:
        raise EngineMissingError(
            f"--gpus {text}: this machine shows {len(have)} NVIDIA GPUs",
            "a job that asks for GPUs does not run on the CPU instead",
            "install the driver, ask for fewer, or leave out --gpus",
        )
    return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}

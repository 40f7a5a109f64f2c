"""Names and limits that the platform puts on jobs, channels and hyperparameters."""

from __future__ import annotations

import re
from datetime import datetime

from local_sagemaker.errors import UsageError

JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
CHANNEL_NAME = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
SIZE = re.compile(r"([0-9]+)([bkmg]?)", re.IGNORECASE)
BYTES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
ENVIRONMENT_KEY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,511}")
MAX_JOB_NAME = 63
# Said where the API wants an instance type and the user has named none.
STAND_IN_TYPE = "ml.m5.large"
MAX_HYPERPARAMETERS = 100
MAX_HYPERPARAMETER_KEY = 256
MAX_HYPERPARAMETER_VALUE = 2500
MAX_CHANNELS = 20


def check_job_name(name: str) -> str:
    """Return ``name`` if it can name a training job, else raise UsageError."""
    if len(name) > MAX_JOB_NAME or not JOB_NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a job",
            "expected 1 to 63 letters, digits and hyphens, with a letter or digit first and last",
            "give another --job-name, or leave it out",
        )
    return name


def make_job_name(project: str, now: datetime) -> str:
    """Name a job after its project and the time, as ``digits-20260131-120102-345``."""
    stem = re.sub(r"[^a-zA-Z0-9]+", "-", project).strip("-") or "job"
    return check_job_name(stamped(stem, now))


def stamped(stem: str, now: datetime) -> str:
    """A name that ends with the time, and is as long as names may be at most."""
    stamp = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}"
    return f"{stem[: MAX_JOB_NAME - len(stamp) - 1].rstrip('-')}-{stamp}"


def check_channel_name(name: str) -> str:
    """Return ``name`` if it can name a channel, else raise UsageError."""
    if not CHANNEL_NAME.fullmatch(name) or name in {".", ".."}:
        raise UsageError(
            f"{name!r} cannot name a channel",
            "expected 1 to 64 letters, digits, dots, hyphens and underscores",
            "rename the folder below input/data, or the --channel",
        )
    return name


def check_environment_key(key: str) -> str:
    """Return ``key`` if a job's environment may contain it, else raise UsageError."""
    if not ENVIRONMENT_KEY.fullmatch(key):
        raise UsageError(
            f"{key!r} cannot name an environment variable of a job",
            "expected letters, digits and underscores, not beginning with a digit",
            "write --env KEY=VALUE",
        )
    return key


def parse_size(text: str, option: str) -> int:
    """Bytes of a size as Docker writes it: ``512m``, ``2g``; no letter means bytes.

    Raises:
        UsageError: if it is no size.
    """
    match = SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError(
            f"{option} {text!r} is no size", "expected a number and one of b, k, m, g", f"write {option} 2g"
        )
    return int(match[1]) * BYTES[match[2].lower()]


def parse_pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Split ``KEY=VALUE`` arguments of ``option``; a later one wins.

    Raises:
        UsageError: if one has no ``=`` or no key.
    """
    parsed = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} {pair!r} is not a pair", "expected KEY=VALUE", f"write {option} KEY=VALUE")
        parsed[key] = value
    return parsed

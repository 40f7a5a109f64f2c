"""What the request of a training job cannot say, because it is about this machine; kept beside the job's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.engines.base import Limits
from local_sagemaker.training.chaos import Interruption

LOCAL_FILE = "local.json"
AFTER_FAILURE_SECONDS = 30.0
STOP_GRACE_SECONDS = 120.0


@dataclass(frozen=True)
class LocalOptions:
    """How a job runs on this machine.

    Attributes:
        code: the user's code folder, or None for the image's own.
        folders: the user's own folders by channel; the request's address in S3 shows them.
        checkpoints: the user's folder that the request's checkpoint location shows.
        max_runtime_seconds: a limit in parts of a second, which wins over the request's.
        stop_grace_seconds: from SIGTERM to SIGKILL.
        after_failure_seconds: how long the other hosts may run on once one has failed.
        limits: what each host may use.
        types: what ``resourceconfig.json`` calls the type of an instance group, where that is none of the service's.
        interruptions: when the attempts lose their spot instances, one after the other.
        session: marks this invocation's containers.
    """

    code: Path | None = None
    folders: Mapping[str, Path] = field(default_factory=dict)
    checkpoints: Path | None = None
    max_runtime_seconds: float | None = None
    stop_grace_seconds: float = STOP_GRACE_SECONDS
    after_failure_seconds: float = AFTER_FAILURE_SECONDS
    limits: Limits = field(default_factory=Limits)
    types: Mapping[str, str] = field(default_factory=dict)
    interruptions: tuple[Interruption, ...] = ()
    session: str = "local"


def write_local_options(options: LocalOptions, directory: Path) -> None:
    """Keep them in the job's directory, which is made if absent."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(options), indent=2, default=str)
    (directory / LOCAL_FILE).write_text(text + "\n", encoding="utf-8")


def read_local_options(directory: Path) -> LocalOptions:
    """What ``write_local_options`` kept; the defaults for a job that was made without."""
    try:
        document: dict[str, Any] = json.loads((directory / LOCAL_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return LocalOptions()
    return LocalOptions(
        **{
            **document,
            "code": _path(document["code"]),
            "folders": {name: Path(folder) for name, folder in document["folders"].items()},
            "checkpoints": _path(document["checkpoints"]),
            "limits": Limits(**document["limits"]),
            "interruptions": tuple(Interruption(**one) for one in document["interruptions"]),
        }
    )


def is_taken(directory: Path) -> bool:
    """Whether a job has run in its directory already, and not only been made."""
    return directory.exists() and [path.name for path in directory.iterdir()] != [LOCAL_FILE]


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)

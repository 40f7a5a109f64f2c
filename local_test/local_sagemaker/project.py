"""A project directory as the user keeps it: ``code/``, hyperparameters and one folder per channel. Read only here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_sagemaker.errors import UsageError
from local_sagemaker.names import (
    MAX_CHANNELS,
    MAX_HYPERPARAMETER_KEY,
    MAX_HYPERPARAMETER_VALUE,
    MAX_HYPERPARAMETERS,
    check_channel_name,
)

HYPERPARAMETERS_FILE = Path("input", "config", "hyperparameters.json")
DATA_DIR = Path("input", "data")


@dataclass(frozen=True)
class Project:
    """What a job is made from.

    Attributes:
        root: the project directory, absolute.
        code: the user's code folder, or None where the image's own code is used.
        hyperparameters: every value a string, as the platform passes them.
        channels: the folder of each channel, by name.
    """

    root: Path
    code: Path | None
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, Path]

    @property
    def work_dir(self) -> Path:
        """Where jobs and endpoints keep their files."""
        return self.root / ".byoc"


def read_project(
    root: Path, hyperparameters: Mapping[str, str] | None = None, channels: Mapping[str, Path] | None = None
) -> Project:
    """Read a project directory; the arguments add to or replace what it says.

    Args:
        root: the project directory.
        hyperparameters: values that win over the file's.
        channels: folders that win over those below ``input/data``.

    Raises:
        UsageError: if the directory or one of its files is not what it should be.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UsageError(
            f"there is no directory {root}", "expected a project directory", f"make one: `byoc init {root}`"
        )
    code = root / "code"
    merged = {**read_hyperparameters(root / HYPERPARAMETERS_FILE), **(hyperparameters or {})}
    check_hyperparameters(merged)
    found = {**find_channels(root / DATA_DIR), **_given_channels(channels or {})}
    if len(found) > MAX_CHANNELS:
        raise UsageError(f"{len(found)} channels", f"a job has at most {MAX_CHANNELS}", "merge some of the folders")
    return Project(root, code if code.is_dir() else None, merged, found)


def read_hyperparameters(path: Path) -> dict[str, str]:
    """Read a JSON object and turn each value into the string that the platform would pass; {} if there is no file.

    Raises:
        UsageError: naming path, line and column, if it is not a JSON object.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8-sig"))  # as editors of Windows write it
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}",
            'expected one JSON object, such as {"epochs": 10}',
            "correct the file",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", "expected a JSON file in UTF-8", "correct it") from error
    if not isinstance(document, dict):
        raise UsageError(
            f"{path} holds a {type(document).__name__}",
            'expected one JSON object, such as {"epochs": 10}',
            "correct the file",
        )
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}


def check_hyperparameters(hyperparameters: Mapping[str, str]) -> None:
    """Raise UsageError where the platform would refuse the job."""
    if len(hyperparameters) > MAX_HYPERPARAMETERS:
        raise UsageError(
            f"{len(hyperparameters)} hyperparameters", f"a job has at most {MAX_HYPERPARAMETERS}", "put some in a file"
        )
    for key, value in hyperparameters.items():
        if not key or len(key) > MAX_HYPERPARAMETER_KEY:
            raise UsageError(
                f"the hyperparameter name {key[:40]!r} has {len(key)} characters",
                f"expected 1 to {MAX_HYPERPARAMETER_KEY}",
                "rename it",
            )
        if len(value) > MAX_HYPERPARAMETER_VALUE:
            raise UsageError(
                f"hyperparameter {key} has a value of {len(value)} characters",
                f"the platform takes at most {MAX_HYPERPARAMETER_VALUE}",
                "pass it as a file in a channel",
            )


def find_channels(data: Path) -> dict[str, Path]:
    """Each folder below ``input/data`` is a channel; files and hidden folders beside them are not."""
    if not data.is_dir():
        return {}
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {check_channel_name(folder.name): folder.resolve() for folder in folders}


def _given_channels(channels: Mapping[str, Path]) -> dict[str, Path]:
    given = {}
    for name, folder in channels.items():
        resolved = folder.expanduser().resolve()
        if not resolved.is_dir():
            raise UsageError(
                f"channel {name}: there is no directory {resolved}",
                "a channel is a folder of files",
                "write --channel NAME=DIR with an existing DIR",
            )
        given[check_channel_name(name)] = resolved
    return given

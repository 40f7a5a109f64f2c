"""Find what to run: a Python script, a module or package, or a shell script, in the user's code folder."""

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.paths import MLPaths

DEFAULT_PROGRAM = "train.py"


@dataclass(frozen=True)
class EntryPoint:
    """The user's program: its `name` as given, the `folder` it runs in, and the `command` without arguments."""

    name: str
    folder: Path
    command: tuple[str, ...]

    @property
    def module_name(self) -> str:
        return self.name.removesuffix(".py")


def find_entry_point(program: str | None, folders: list[Path]) -> EntryPoint:
    """The first of `folders` that holds `program` (default train.py). Raises UserCodeError, naming what is there."""
    name = program or DEFAULT_PROGRAM
    if Path(name).is_absolute() and Path(name).is_file():
        return _script(name, Path(name).parent, Path(name))
    for folder in folders:
        found = _in_folder(name, folder)
        if found:
            return found
    raise UserCodeError(_missing(name, program, folders))


def code_folders(paths: MLPaths, staged: Path | None) -> list[Path]:
    """Where code is looked for: uploaded source first, then /opt/ml/code, then the code baked into the image."""
    return [folder for folder in (staged, paths.code, paths.image_code) if folder is not None]


def _in_folder(name: str, folder: Path) -> EntryPoint | None:
    path = folder / name
    if path.is_file():
        return _script(name, folder, path)
    module = folder.joinpath(*name.split("."))
    if module.is_dir() and (module / "__main__.py").is_file():
        return EntryPoint(name, folder, (sys.executable, "-u", "-m", name.replace("/", ".")))
    if module.with_name(module.name + ".py").is_file():
        return EntryPoint(name, folder, (sys.executable, "-u", "-m", name))
    return None


def _script(name: str, folder: Path, path: Path) -> EntryPoint:
    if path.suffix == ".py":
        return EntryPoint(name, folder, (sys.executable, "-u", str(path)))
    if path.suffix == ".sh":
        # A script's own first line decides its shell where it may be executed; else the POSIX shell reads it.
        return EntryPoint(name, folder, (str(path),) if _runs_itself(path) else ("/bin/sh", str(path)))
    if os.access(path, os.X_OK):
        return EntryPoint(name, folder, (str(path),))
    return EntryPoint(name, folder, ("/bin/sh", "-c", shlex.quote(str(path)) + ' "$@"', name))


def _runs_itself(path: Path) -> bool:
    with path.open("rb") as script:
        return os.access(path, os.X_OK) and script.read(2) == b"#!"


def _missing(name: str, program: str | None, folders: list[Path]) -> str:
    asked = "SAGEMAKER_PROGRAM or sagemaker_program" if program else "the default, as no SAGEMAKER_PROGRAM is set"
    seen = "; ".join(f"{folder} {_listing(folder)}" for folder in folders)
    return (
        f"no training script: {name!r} ({asked}) was not found. Looked in: {seen}. "
        f"Put it in {folders[0]}, or set SAGEMAKER_PROGRAM to the script's name."
    )


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return "(does not exist)"
    return "(holds " + (", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "nothing") + ")"

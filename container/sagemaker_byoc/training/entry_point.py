"""Find what to run: a Python script, a module or package, or a shell script, in the user's code folder."""

import os
import re
import shlex
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.paths import MLPaths

DEFAULT_PROGRAM = "train.py"
_KERNELS_FIRST_LINE = 256  # bytes that the kernel looks at
_DOTTED = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_MODULE = rf"(?P<module>{_DOTTED})(:(?P<function>{_DOTTED}))?"


@dataclass(frozen=True)
class EntryPoint:
    """The user's program: its `name` as given, the `folder` it runs in, and the `command` without arguments."""

    name: str
    folder: Path
    command: tuple[str, ...]

    @property
    def module_name(self) -> str:
        return self.name.partition(":")[0].removesuffix(".py")


def find_entry_point(program: str | None, folders: list[Path]) -> EntryPoint:
    """The first of `folders` that holds `program` (default train.py). Raises UserCodeError, naming what is there.

    The last folder is the image's. Its train.py does not stand in for one that is missing in the code a job brings:
    the job would train something else than its user thinks.
    """
    name = program or DEFAULT_PROGRAM
    if program is None:
        folders = [folder for folder in folders[:-1] if _has_files(folder)] or folders
    if Path(name).is_absolute() and Path(name).is_file():
        return _script(name, Path(name).parent, Path(name))
    for folder in folders:
        found = _in_folder(name, folder) or (_installable(name, folder) if program else None)
        if found:
            return found
    raise UserCodeError(_missing(name, program, folders))


def module_entry_point(spec: str, folders: list[Path]) -> EntryPoint:
    """`module:function` (default `main`), of a code folder or of an installed package. Raises UserCodeError.

    It runs in the first of `folders` that holds the module, else in the first that exists.
    """
    match = re.fullmatch(_MODULE, spec.strip())
    if not match:
        raise UserCodeError(
            f"SAGEMAKER_TRAINING_MODULE is {spec!r}; expected module:function, such as my_package.train:main."
        )
    module, function = match["module"], match["function"] or "main"
    top = module.partition(".")[0]
    holding = [folder for folder in folders if PathFinder.find_spec(top, [str(folder)])]
    if not holding and PathFinder.find_spec(top, sys.path) is None:
        raise UserCodeError(
            f"SAGEMAKER_TRAINING_MODULE is {spec!r}, and no module {top!r} is installed or in a code folder. "
            f"Looked in: {_seen(folders)}."
        )
    folder = next((folder for folder in [*holding, *folders] if folder.is_dir()), Path.cwd())
    command = (sys.executable, "-u", "-m", "sagemaker_byoc.training.module", f"{module}:{function}")
    return EntryPoint(f"{module}:{function}", folder, command)


def code_folders(paths: MLPaths, staged: Path | None) -> list[Path]:
    """Where code is looked for: uploaded source first, then /opt/ml/code, then the code baked into the image.

    The SageMaker Python SDK v3 uploads source as a channel named `code`, beside one named `sm_drivers`.
    """
    uploaded = paths.data / "code" if (paths.data / "sm_drivers").is_dir() else None
    return [folder for folder in (staged, uploaded, paths.code, paths.image_code) if folder is not None]


def _has_files(folder: Path) -> bool:
    try:
        return any(not entry.name.startswith((".", "__pycache__")) for entry in folder.iterdir())
    except OSError:
        return False


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


def _installable(name: str, folder: Path) -> EntryPoint | None:
    """A module of the package that the folder's setup.py installs before the start."""
    if name.endswith(".sh") or not (folder / "setup.py").is_file():
        return None
    return EntryPoint(name, folder, (sys.executable, "-u", "-m", name.removesuffix(".py").replace("/", ".")))


def _script(name: str, folder: Path, path: Path) -> EntryPoint:
    if path.suffix == ".py":
        return EntryPoint(name, folder, (sys.executable, "-u", str(path)))
    first_line = _first_line(path)
    if os.access(path, os.X_OK) and (first_line or path.suffix != ".sh"):
        return EntryPoint(name, folder, (str(path),))
    if first_line:
        # An archive made on Windows, or a copy, has lost the right to be executed; the script's shell is still its own.
        return EntryPoint(name, folder, (*_interpreter(path, first_line), str(path)))
    if path.suffix == ".sh":
        return EntryPoint(name, folder, ("/bin/sh", str(path)))
    return EntryPoint(name, folder, ("/bin/sh", "-c", shlex.quote(str(path)) + ' "$@"', name))


def _first_line(path: Path) -> bytes:
    """What follows `#!` at the start of a script; empty for anything else."""
    with path.open("rb") as script:
        line = script.readline(_KERNELS_FIRST_LINE)
    return line[2:].strip(b" \t\n") if line.startswith(b"#!") else b""


def _interpreter(path: Path, first_line: bytes) -> tuple[str, ...]:
    """The program that the first line names, and at most one argument, as the kernel reads it. Raises UserCodeError."""
    if first_line.endswith(b"\r"):
        raise UserCodeError(
            f"{path} has the line ends of Windows, which a shell takes for a part of its commands. "
            "Save it with line feeds alone."
        )
    return tuple(os.fsdecode(part) for part in first_line.split(maxsplit=1))


def _missing(name: str, program: str | None, folders: list[Path]) -> str:
    asked = "SAGEMAKER_PROGRAM or sagemaker_program" if program else "the default, as no SAGEMAKER_PROGRAM is set"
    return (
        f"no training script: {name!r} ({asked}) was not found. Looked in: {_seen(folders)}. "
        f"Put it in {folders[0]}, or set SAGEMAKER_PROGRAM to the script's name."
    )


def _seen(folders: list[Path]) -> str:
    return "; ".join(f"{folder} {_listing(folder)}" for folder in folders)


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return "(does not exist)"
    return "(holds " + (", ".join(names[:8]) + (", …" if len(names) > 8 else "") or "nothing") + ")"

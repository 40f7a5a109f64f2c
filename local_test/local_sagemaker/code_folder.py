"""The user's code folder: its copy for a container, and how a change in it is noticed.

It is looked at a few times a second: a code folder is small, and this works on every file system, which a library for
the kernel's notices would not.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from local_sagemaker.errors import UsageError

CACHES = frozenset({"__pycache__", ".git", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache"})
Snapshot = frozenset[tuple[str, int, int]]


def copy_code(source: Path, target: Path) -> Path:
    """Copy the user's code folder, leaving out caches, sockets and pipes; returns ``target``.

    A file that goes away meanwhile, as an editor's do, is left out.

    Raises:
        UsageError: if a file cannot be copied.
    """
    try:
        shutil.copytree(source, target, symlinks=True, ignore=_no_code)
    except shutil.Error as error:
        for path, _, reason in error.args[0]:
            if os.path.lexists(path):
                raise UsageError(
                    f"{path} cannot be copied: {reason}",
                    "expected a code folder whose files can be read, and room for a copy of it",
                    "mend that, or take the file out of the code folder",
                ) from error
    return target


def look(folder: Path) -> Snapshot:
    """Every file of the code with its time and size; caches, hidden files and editors' own are no code."""
    seen = set()
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in CACHES]
        for name in files:
            if name.startswith(".") or name.endswith((".pyc", "~")):
                continue
            path = Path(parent, name)
            try:
                status = path.stat()
            except OSError:
                continue  # it is being replaced at this moment, or leads nowhere
            if stat.S_ISREG(status.st_mode):
                seen.add((str(path.relative_to(folder)), status.st_mtime_ns, status.st_size))
    return frozenset(seen)


def _no_code(folder: str, names: list[str]) -> set[str]:
    """The names in a code folder that are not copied."""
    return {name for name in names if name in CACHES or name.endswith(".pyc") or not _can_be_kept(Path(folder, name))}


def _can_be_kept(path: Path) -> bool:
    try:
        return stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
    except FileNotFoundError:
        return False

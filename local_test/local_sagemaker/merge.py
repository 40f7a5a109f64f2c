"""The folders that the hosts of a job leave become one: whose file is taken where several have the same name.

Source: SageMaker developer guide, "How Amazon SageMaker AI Processes Training Output". Nothing is copied here; the plan
says which file of which host stands under each name of the archive.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Merged:
    """The files, folders and links of an archive by their paths in it, and the names that hosts disagree about."""

    entries: Mapping[str, Path]
    clashes: tuple[str, ...] = ()


def merge(folders: Mapping[str, Path]) -> Merged:
    """Lay folders over each other in the order given: of different files with one name the last host's is taken.

    Args:
        folders: each host's folder; an absent one is empty.
    """
    entries: dict[str, Path] = {}
    owners: dict[str, str] = {}
    clashing: dict[str, list[str]] = {}
    for host, folder in folders.items():
        for path in _walk(folder):
            name = str(path.relative_to(folder))
            if name in entries and not _same(entries[name], path):
                clashing.setdefault(name, [owners[name]]).append(host)
                if not _is_folder(path):
                    _drop_below(name, entries)
            entries[name], owners[name] = path, host
    clashes = tuple(
        f"{', '.join(hosts)} left different files named {name!r}, and that of {hosts[-1]} is kept: give each host's "
        "files names of their own, or write on one host only"
        for name, hosts in sorted(clashing.items())
    )
    return Merged(dict(sorted(entries.items())), clashes)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(parent, name)
            # Sockets and pipes are nothing to keep.
            if stat.S_IFMT(path.lstat().st_mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
                yield path


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and one.readlink() == other.readlink()
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    return filecmp.cmp(one, other, shallow=False)


def _drop_below(name: str, entries: dict[str, Path]) -> None:
    for below in [entry for entry in entries if entry.startswith(f"{name}/")]:
        del entries[below]

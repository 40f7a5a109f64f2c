"""``model.tar.gz`` and ``output.tar.gz``: packing a folder as the platform does, and unpacking an archive safely."""

from __future__ import annotations

import os
import shutil
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from local_sagemaker.errors import UsageError
from local_sagemaker.machine_faults import REFUSALS
from local_sagemaker.merge import merge
from local_sagemaker.tar import tarfile

MODEL = PurePosixPath("/opt/ml/model")
PIECE_BYTES = 1 << 20


def pack(directory: Path, archive: Path) -> Path:
    """Pack the contents of ``directory``, with paths relative to it; an absent directory gives an empty archive.

    The archive appears under its name only when complete. Returns ``archive``.
    """
    return pack_entries(merge({"": directory}).entries, archive)


def pack_entries(entries: Mapping[str, Path], archive: Path) -> Path:
    """Pack files, folders and links under the names given; see ``pack``."""
    partial = archive.with_name(f".{archive.name}.partial")
    try:
        with tarfile.open(partial, "w:gz") as tar:
            for name, path in entries.items():
                tar.add(path, arcname=name, recursive=False)
        partial.replace(archive)
    except OSError as error:
        error.filename = error.filename or str(archive)  # a full disk names no file by itself
        raise
    finally:
        partial.unlink(missing_ok=True)
    return archive


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack a ``.tar.gz`` below ``directory``; returns ``directory``.

    Raises:
        UsageError: if the file is no archive, a member of it would land outside of ``directory``, or there is no room.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive, "r:*") as tar:
            tar.extractall(directory, filter=_within)
            while tar.fileobj is not None and tar.fileobj.read(PIECE_BYTES):
                pass  # the checksum stands at the end, behind what is unpacked
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no file {archive}", "expected a model.tar.gz", "train first: `byoc train`"
        ) from error
    except tarfile.FilterError as error:
        raise UsageError(
            f"{archive} is refused: {error}",
            "expected paths inside the model directory",
            "pack it again from inside of the model directory: `tar -czf model.tar.gz -C MODEL_DIR .`",
        ) from error
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in REFUSALS:
            raise UsageError(
                f"{archive} cannot be unpacked in {directory}: {error.strerror}",
                "expected room for, and the right to, what is in it",
                REFUSALS[error.errno],
            ) from error
        raise UsageError(
            f"{archive} cannot be unpacked: {error}",
            "expected a gzip-compressed tar archive",
            "pack it with `tar -czf model.tar.gz -C MODEL_DIR .`",
        ) from error
    return directory


def _within(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
    """The standard library's filter for data; a link that names its target below /opt/ml/model stays in the model."""
    if member.issym() and member.linkname.startswith(f"{MODEL}/"):
        target = os.path.relpath(member.linkname, MODEL / PurePosixPath(member.name).parent)
        member = member.replace(linkname=target, deep=False)
    return tarfile.data_filter(member, place)


def make_read_only(directory: Path) -> None:
    """Take the write permission from a tree, as a hosted model's directory has none."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o222)


def make_readable(directory: Path) -> None:
    """Let the owner read all of a tree, and enter its folders: the platform reads a job's files whatever their modes.

    What belongs to somebody else stays as it is.
    """
    user = os.getuid()
    for parent, folders, files in os.walk(directory):
        for name, wanted in [*((name, 0o700) for name in folders), *((name, 0o400) for name in files)]:
            path = Path(parent, name)
            status = path.lstat()
            if status.st_uid == user and not stat.S_ISLNK(status.st_mode) and status.st_mode & wanted != wanted:
                path.chmod(stat.S_IMODE(status.st_mode) | wanted)


def remove_tree(directory: Path) -> None:
    """Delete a tree, read-only folders included; an absent one is fine."""
    if not directory.is_dir():
        return
    for parent, folders, _ in os.walk(directory):
        for path in (Path(parent), *(Path(parent, name) for name in folders)):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o700)
    shutil.rmtree(directory)

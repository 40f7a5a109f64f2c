"""Files that appear whole or not at all, although the process that writes them may be killed at any moment."""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = ".checkpoint-unfinished-"


@contextlib.contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A path to write to, from which the file can be renamed into `folder`. Gone after the block, if it is still there.

    It lies in a folder of its own that the writer keeps locked. The kernel lets go of the lock when the writer dies,
    however it dies; the next writer then removes what was left.
    """
    place = staging(folder)
    with contextlib.ExitStack() as stack:
        with _locked(place):  # nobody takes a new folder for a leftover before it is locked
            _remove_leftovers(place)
            own = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place))
            stack.callback(shutil.rmtree, own, ignore_errors=True)
            stack.enter_context(_locked(own))
        yield own / "checkpoint"


def staging(folder: Path) -> Path:
    """The first writable place on the mount of `folder`: beside it, the scratch folder, else inside it.

    Renaming cannot cross a mount, not even between two mounts of one disk, as bind mounts of a container are.
    """
    mount = _mount(folder)
    for place in (folder.parent, Path(tempfile.gettempdir())):
        if mount is not None and _mount(place) == mount and os.access(place, os.W_OK):
            return place
    return folder


def sync(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names(folder: Path) -> list[str]:
    """The names in a folder in order; none when there is no folder."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []


def _mount(folder: Path) -> str | None:
    """The kernel's number of the mount that the folder is on; None where it does not say."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        found = re.search(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{descriptor}").read_text(), re.MULTILINE)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return found[1] if found else None


def _remove_leftovers(place: Path) -> None:
    """Remove what killed writers left; what a living one still writes is locked."""
    for name in names(place):
        if name.startswith(UNFINISHED):
            with contextlib.suppress(OSError), _locked(place / name, wait=False):
                shutil.rmtree(place / name, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Hold the folder's lock. Raises OSError, unless it may wait, when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A network file system may know no such lock: then writers go on without, and leftovers are left.
        with contextlib.suppress(*((OSError,) if wait else ())):
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)

"""A folder that plays the job's checkpoint location in S3: brought to every host at the start, kept up to date by all.

Source: SageMaker developer guide, "Use checkpoints in Amazon SageMaker AI". What the platform does is done here,
the unpleasant included: a file that a host deletes is deleted in the store, a file is uploaded under whatever name it
has at the moment, and of two hosts that write the same name the later one wins.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from local_sagemaker.errors import UsageError

EVERY_SECONDS = 1.0
# Uploads appear in the store complete, as objects in S3 do; until then they are below this folder of it.
PARTIAL = ".byoc-partial"


@dataclass(frozen=True)
class Stamp:
    """By which a changed file is told from an unchanged one."""

    modified_ns: int
    size: int
    inode: int


@dataclass(frozen=True)
class Listing:
    """Files by path relative to their folder, and the paths that could not be looked into."""

    files: dict[str, Stamp]
    unreadable: tuple[str, ...] = ()

    def hides(self, path: str) -> bool:
        """Whether ``path`` may exist though it was not seen."""
        return any(place == "." or Path(path).is_relative_to(place) for place in self.unreadable)


@dataclass
class HostFolder:
    """One host's checkpoint folder, and its files when it was last looked at, by path relative to it."""

    path: Path
    seen: dict[str, Stamp] = field(default_factory=dict)


def check_store(store: Path) -> Path:
    """The store as an absolute path; it may be absent, as a prefix in S3 may.

    Raises:
        UsageError: if it is a file.
    """
    store = store.expanduser().resolve()
    if store.exists() and not store.is_dir():
        raise UsageError(
            f"--checkpoints {store} is a file", "checkpoints are kept in a folder", "write --checkpoints DIR"
        )
    return store


class CheckpointSync:
    """Carries checkpoints between a store and the hosts of one job."""

    def __init__(self, store: Path, folders: Mapping[str, Path], *, deletes: bool = True) -> None:
        """Nothing is carried yet.

        Args:
            store: the folder that plays the location in S3.
            folders: each host's.
            deletes: whether what a host deletes is deleted in the store.
        """
        self._deletes = deletes
        self._store = store
        self._hosts = {host: HostFolder(path) for host, path in folders.items()}
        self._refused: dict[str, str] = {}

    def download(self) -> None:
        """Copy all that the store has to every host.

        Raises:
            UsageError: if the store cannot be made or read.
        """
        try:
            self._store.mkdir(parents=True, exist_ok=True)
            names = sorted(name for name in list_files(self._store).files if not name.startswith(f"{PARTIAL}/"))
            for host in self._hosts.values():
                for name in names:
                    place = host.path / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(self._store / name, place)
                host.seen = list_files(host.path).files
        except OSError as error:
            raise UsageError(
                f"the checkpoints in {self._store} cannot be used: {error}",
                "expected a folder that can be read and written",
                "correct its permissions, or name another one with --checkpoints",
            ) from error

    def upload(self) -> None:
        """Bring to the store what the hosts have written, changed and deleted since the last time."""
        self._refused.clear()
        for name, host in self._hosts.items():
            listing = list_files(host.path)
            for path in host.seen.keys() - listing.files.keys():
                if not listing.hides(path):
                    if self._deletes:
                        self._delete(path)
                    del host.seen[path]
            for path, stamp in sorted(listing.files.items()):
                # What could not be uploaded is tried again the next time.
                if stamp != host.seen.get(path) and self._upload_file(name, host.path, path):
                    host.seen[path] = stamp
            self._refused |= {f"{path!r} of {name}": "it cannot be read" for path in listing.unreadable}

    @property
    def warnings(self) -> list[str]:
        """What could not be uploaded the last time, in sentences."""
        return [f"checkpoint {path} was not kept: {why}" for path, why in sorted(self._refused.items())]

    def _upload_file(self, host: str, folder: Path, path: str) -> bool:
        place, partial = self._store / path, self._store / PARTIAL / path
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, partial)
            partial.replace(place)
        except FileNotFoundError:
            return False  # renamed or deleted meanwhile
        except OSError as error:
            self._refused[f"{path!r} of {host}"] = error.strerror or str(error)
            return False
        return True

    def _delete(self, path: str) -> None:
        place = self._store / path
        with suppress(OSError):
            place.unlink()
            # S3 has no folders: the last file takes its folder with it.
            for parent in place.parents:
                if parent == self._store:
                    break
                parent.rmdir()

    @contextmanager
    def in_background(self) -> Iterator[None]:
        """Upload about each second during the block, and once more at its end."""
        ended = threading.Event()

        def keep_uploading() -> None:
            while not ended.wait(EVERY_SECONDS):
                self.upload()

        thread = threading.Thread(target=keep_uploading, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.upload()
            shutil.rmtree(self._store / PARTIAL, ignore_errors=True)


def list_files(folder: Path) -> Listing:
    """The files below a folder; of links only those to files inside of it."""
    files: dict[str, Stamp] = {}
    unreadable: list[str] = []

    def note(error: OSError) -> None:
        # A folder that has just been deleted is no error; the folder itself is never deleted by a job.
        path = Path(error.filename)
        if path == folder or not isinstance(error, FileNotFoundError):
            unreadable.append(str(path.relative_to(folder)))

    for parent, _, names in os.walk(folder, onerror=note):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # deleted meanwhile, or a link to nothing
            except OSError as error:
                note(error)
                continue
            if stat.S_ISREG(status.st_mode) and (not path.is_symlink() or _leads_inside(path, folder)):
                files[str(path.relative_to(folder))] = Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
    return Listing(files, tuple(unreadable))


def _leads_inside(link: Path, folder: Path) -> bool:
    return link.resolve().is_relative_to(folder.resolve())

"""Which models are loaded, for all workers to see: a file for each below one folder, changed under one lock.

The registry is the truth. A worker that finds itself with another model than the registry says has to change, not the
registry. Loads and unloads happen one after the other in the whole container: memory can then be measured, and a worker
that dies in the middle leaves behind at most one record that says so.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

LOADING = "loading"
LOADED = "loaded"
ASIDE = "aside"  # listed, and in no worker's memory


@dataclass(frozen=True)
class ModelRecord:
    """One model as all workers know it. `version` tells two loads under one name apart; `left` is the memory that was
    left when its loading began, in bytes, and `kills` how many processes the kernel had killed for memory by then.
    """

    name: str
    url: str
    version: str
    state: str
    left: int = 0
    kills: int = 0


class ModelRegistry:
    """The records of one container."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        # Locked with lockf: unlike flock's, such a lock is not kept by what a model's code has forked.
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._threads = threading.Lock()
        self._used_paths: dict[str, str] = {}  # each request asks, and making one takes longer than using it

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock. The kernel lets go of it when its holder dies."""
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def read(self, name: str) -> ModelRecord | None:
        try:
            return ModelRecord(**json.loads(self._record(name).read_bytes()))
        except FileNotFoundError:
            return None

    def records(self) -> list[ModelRecord]:
        """Every record, in the order of names."""
        found = []
        for path in self.folder.glob("*.model"):
            with contextlib.suppress(FileNotFoundError):  # unloaded since it was listed
                found.append(ModelRecord(**json.loads(path.read_bytes())))
        return sorted(found, key=lambda record: record.name)

    def write(self, record: ModelRecord) -> None:
        """Add or replace a record; it is there whole, or not at all."""
        path = self._record(record.name)
        hidden = path.with_suffix(".new")
        hidden.write_text(json.dumps(asdict(record)), encoding="utf-8")
        self._used(record.name).touch()
        os.replace(hidden, path)  # noqa: PTH105 - as the other renames here

    def mark(self, record: ModelRecord, state: str) -> ModelRecord:
        """Write a record with another state."""
        changed = replace(record, state=state)
        self.write(changed)
        return changed

    def remove(self, name: str) -> None:
        self._record(name).unlink(missing_ok=True)
        self._used(name).unlink(missing_ok=True)

    def use(self, name: str) -> bool:
        """Note that a model is used now; False if it is not listed any more."""
        path = self._used_paths.get(name) or self._used_paths.setdefault(name, str(self._used(name)))
        now = time.time_ns()
        try:
            os.utime(path, ns=(now, now))
        except FileNotFoundError:
            self._used_paths.pop(name, None)
            return False
        return True

    def by_use(self) -> list[ModelRecord]:
        """Every record, the one used longest ago first."""
        return sorted(self.records(), key=lambda record: self._last_use(record.name))

    def size(self, name: str) -> int | None:
        """Bytes that one copy of the model took when it was loaded last, also if it has been unloaded since."""
        try:
            return int(self._size(name).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def note_size(self, name: str, size: int) -> None:
        self._size(name).write_text(str(size))

    def _last_use(self, name: str) -> int:
        try:
            return self._used(name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _record(self, name: str) -> Path:
        return self.folder / f"{_key(name)}.model"

    def _used(self, name: str) -> Path:
        return self.folder / f"{_key(name)}.used"

    def _size(self, name: str) -> Path:
        return self.folder / f"{_key(name)}.size"


def _key(name: str) -> str:
    """A file name for a model's name, which may be of any length and hold any character."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()

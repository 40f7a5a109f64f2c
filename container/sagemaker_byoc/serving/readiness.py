"""Whether this container may be sent requests: marks of the workers, one file for all to see.

A worker marks itself when its model is loaded, or could not be; the supervisor makes `ready` when every worker has,
and takes it away when none is left or when the container is told to stop. nginx answers /ping from that file alone.
"""

import os
from dataclasses import dataclass
from pathlib import Path

RUN_DIRECTORY = "BYOC_RUN_DIRECTORY"  # set by the supervisor for its workers, not by users


@dataclass(frozen=True)
class Readiness:
    """The marks below one folder."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "ready"

    def is_ready(self) -> bool:
        return os.path.exists(self._file)  # noqa: PTH110 - asked by each request, and pathlib takes ten times as long

    def has_been_ready(self) -> bool:
        """Whether it is ready, or was, and no worker has a model at this moment: the next one is on its way."""
        return self.is_ready() or self._past.exists()

    def mark_loaded(self, pid: int) -> None:
        """To be called by a worker whose model is loaded."""
        (self.folder / f"loaded-{pid}").touch()

    def take_mark_away(self, pid: int) -> None:
        """A worker that was loaded cannot answer at the moment."""
        (self.folder / f"loaded-{pid}").unlink(missing_ok=True)

    def mark_failed(self, pid: int) -> None:
        """To be called by a worker whose model cannot be loaded."""
        (self.folder / f"failed-{pid}").touch()

    def is_loaded(self, pid: int) -> bool:
        return (self.folder / f"loaded-{pid}").exists()

    def has_failed(self, pid: int) -> bool:
        return (self.folder / f"failed-{pid}").exists()

    def update(self, workers: int) -> bool:
        """Make or remove the file from the marks of living workers; returns whether the container is ready now."""
        loaded = sum(1 for mark in self.folder.glob("loaded-*") if self._is_alive(mark))
        if not self.is_ready() and loaded >= workers:
            self._past.touch()
            self.file.touch()
        elif self.is_ready() and loaded == 0:
            self.file.unlink(missing_ok=True)
        return self.is_ready()

    def withdraw(self) -> None:
        """The container ends."""
        self.file.unlink(missing_ok=True)
        self._past.unlink(missing_ok=True)

    @property
    def _past(self) -> Path:
        return self.folder / "was-ready"

    @property
    def _file(self) -> str:
        return f"{self.folder}/ready"

    @staticmethod
    def _is_alive(mark: Path) -> bool:
        try:
            os.kill(int(mark.name.removeprefix("loaded-")), 0)
        except ProcessLookupError:
            mark.unlink(missing_ok=True)
            return False
        return True

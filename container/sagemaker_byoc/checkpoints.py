"""Checkpoints that survive a kill at any moment, for scripts that train. Any framework; the standard library only.

    checkpoints = open_checkpoints(keep=2)
    if (found := checkpoints.newest()) is not None:
        state = torch.load(found.path)
    due = Every(seconds=300)
    with listen_for_stop() as should_stop:
        for step in range(first, last):
            ...
            if due(step) or should_stop():
                checkpoints.save(step, lambda path: torch.save(state, path))
            if should_stop():
                break

SageMaker uploads what lies in the checkpoint folder while the job runs, at any moment, and copies it back before the
job starts again. Source: SageMaker developer guide, "Use checkpoints in Amazon SageMaker AI".
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sagemaker_byoc.atomic import names, sync, unfinished
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.settings import read_paths

# The checksum stands in the name: the one rename that shows a checkpoint shows its checksum too, and one object in S3
# holds both. A file beside it could be there without it, or belong to another write.
_NAME = re.compile(r"checkpoint-(?P<step>\d{12,})-(?P<host>.+)-(?P<digest>[0-9a-f]{32})")
_FULL_BYTES = 1024 * 1024


class CheckpointError(OSError):
    """A checkpoint could not be saved. Those saved before are as they were."""


@dataclass(frozen=True)
class Checkpoint:
    """One file that was saved whole: its `path`, and the step and host that it was saved under."""

    path: Path
    step: int
    host: str

    @property
    def is_valid(self) -> bool:
        """Whether the file's content still has the checksum that it was saved with. Reads all of it."""
        match = _NAME.fullmatch(self.path.name)
        try:
            return match is not None and _digest(self.path) == match["digest"]
        except OSError:
            return False


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `folder`.

    `host` is part of the name of each file that is saved here, because all hosts of a job share one place in S3.
    `keep` is the number of this host's checkpoints that are kept; older ones are deleted, in S3 too.
    """

    folder: Path
    host: str
    keep: int

    def save(self, step: int, write: Callable[[Path], object]) -> Checkpoint:
        """Save what `write` writes to the path it is given; on return the checkpoint is on the disk, whole.

        The file grows outside the checkpoint folder, where that can be, and enters it by one rename.

        Args:
            step: how far training has come, 0 or more; `newest` goes by it.
            write: for example `lambda path: torch.save(state, path)`.

        Raises:
            CheckpointError: the folder cannot be written or the disk is full; older checkpoints are untouched.
            Whatever else `write` raises passes through.
        """
        if step < 0:
            raise ValueError(f"step is {step}; expected 0 or more")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished(self.folder) as path:
                _write(path, write)
                name = f"checkpoint-{step:012}-{self.host}-{_digest(path)}"
                saved = Checkpoint(path.rename(self.folder / name), step, self.host)
            sync(self.folder)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be saved in {self.folder}: {error}. "
                f"Older checkpoints are as they were. Free: {_free(self.folder)}"
            ) from error
        self._delete_all_but(saved)
        return saved

    def newest(self, own: bool = False) -> Checkpoint | None:
        """The valid checkpoint of the latest step, or None. One that is damaged is named and passed over.

        Args:
            own: look at this host's checkpoints only; else at every host's, this host's first among equals.
        """
        for checkpoint in sorted(self.all(), key=lambda one: (one.step, one.host == self.host), reverse=True):
            if own and checkpoint.host != self.host:
                continue
            if checkpoint.is_valid:
                return checkpoint
            print(f"checkpoint {checkpoint.path} is damaged and is passed over", file=sys.stderr, flush=True)
        return None

    def all(self) -> list[Checkpoint]:
        """Every host's checkpoints by step, damaged ones among them."""
        matches = [_NAME.fullmatch(name) for name in names(self.folder)]
        return [Checkpoint(self.folder / m[0], int(m["step"]), m["host"]) for m in matches if m is not None]

    def _delete_all_but(self, saved: Checkpoint) -> None:
        """Delete this host's older checkpoints beyond `keep`. Later steps may be another run's: they are left."""
        older = [one for one in self.all() if one.host == self.host and one.step <= saved.step and one != saved]
        superseded = [one for one in older if one.step == saved.step]
        rest = [one for one in older if one.step < saved.step]
        for checkpoint in superseded + rest[: max(0, len(rest) - self.keep + 1)]:
            with contextlib.suppress(OSError):  # saving has succeeded; the next save tries again
                checkpoint.path.unlink()


def open_checkpoints(
    folder: Path | str | None = None,
    keep: int = 2,
    host: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Checkpoints:
    """The job's checkpoints; nothing has to be there yet.

    Args:
        folder: default: `LocalPath` of the job's checkpoint configuration, else `checkpoints` in the base directory.
        keep: how many checkpoints of this host are kept, at least 1. Two leave one to fall back to.
        host: what makes this host's names unique; default: `SM_CURRENT_HOST`. Where several processes of a host save,
            each needs its own: `host=f"algo-1-rank-{rank}"`.
        environ: where `SM_CURRENT_HOST` and `SAGEMAKER_BASE_DIR` are looked up.

    Raises:
        PlatformInputError: the checkpoint configuration is there and is not what the platform writes.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; expected at least 1")
    unique = host or environ.get("SM_CURRENT_HOST") or "algo-1"
    chosen = Path(folder) if folder is not None else _configured_folder(environ)
    return Checkpoints(chosen.absolute(), re.sub(r"[^\w.-]", "_", unique), keep)


class Every:
    """Says when it is time to save: `due = Every(steps=500)` or `Every(seconds=300)`, then `if due(step):`."""

    def __init__(
        self, steps: int | None = None, seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Either or both; with both, whichever comes first. Counting begins now, and again whenever it was due."""
        given = [value for value in (steps, seconds) if value is not None]
        if not given or min(given) <= 0:
            raise ValueError(f"steps is {steps}, seconds is {seconds}; expected at least one of them, above 0")
        self._steps = steps
        self._seconds = seconds
        self._clock = clock
        self._since = clock()
        self._last_step: int | None = None

    def __call__(self, step: int) -> bool:
        """Whether enough steps were done, or enough seconds have passed, since this was last true."""
        if self._last_step is None:
            self._last_step = step - 1
        now = self._clock()
        due = (self._steps is not None and step - self._last_step >= self._steps) or (
            self._seconds is not None and now - self._since >= self._seconds
        )
        if due:
            self._last_step, self._since = step, now
        return due


@contextlib.contextmanager
def listen_for_stop(*signals: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Inside the block, SIGTERM (or `signals`) no longer ends the process: the function that is given turns true.

    SageMaker sends SIGTERM when a job is stopped, runs out of time or loses its spot instance, and kills 120 seconds
    later. A handler that was there before is called as well, and stands alone again after the block. To be entered in
    the main thread: Python runs handlers nowhere else.
    """
    asked = False

    def hear(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        before = previous[signal.Signals(signum)]
        if callable(before) and before is not signal.default_int_handler:
            before(signum, frame)

    chosen = signals or (signal.SIGTERM,)
    previous = {signum: signal.getsignal(signum) for signum in chosen}
    try:
        for signum in chosen:
            signal.signal(signum, hear)
        yield lambda: asked
    finally:
        for signum, before in previous.items():
            # None: the handler was set by a library in C, and Python has no way to put it back.
            signal.signal(signum, signal.SIG_DFL if before is None else before)


def _configured_folder(environ: Mapping[str, str]) -> Path:
    """Where the platform keeps this job's checkpoints."""
    paths = read_paths(environ)
    file = paths.config / "checkpointconfig.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8") or "{}")
        local_path = document.get("LocalPath")
    except FileNotFoundError:
        local_path = None
    except (OSError, ValueError, AttributeError) as error:
        raise PlatformInputError(
            f"{file} cannot be used: {error}. Expected one JSON object with the key LocalPath."
        ) from error
    return Path(local_path) if local_path else paths.base / "checkpoints"


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write, and see it through to the disk."""
    try:
        write(path)
    except OSError:
        raise
    except Exception as error:
        # Frameworks report a full disk in words of their own.
        if shutil.disk_usage(path.parent).free < _FULL_BYTES:
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {error}") from error
        raise
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "the function given to save wrote no file to its path", str(path))
    sync(path)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free / 1e6:.0f} MB."
    except OSError:
        return "unknown."

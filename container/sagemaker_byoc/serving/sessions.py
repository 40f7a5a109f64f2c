"""Sessions: what the requests of one caller share, kept in files that every worker sees.

A session is a folder; its name is its id and begins with the second in which it ends, so that nothing has to be read to
know whether it is over. Requests of one session are answered one after the other, in whichever worker they arrive: what
a request has read is still true when it writes.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagemaker_byoc.errors import DeadlineExceeded, InvalidSession, NotEnoughMemory, PlatformInputError
from sagemaker_byoc.serving.settings import ServeSettings

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, which nobody else can enter
ENOUGH_SHARED_MEMORY = 256 << 20  # bytes; the platform's containers have 64 MB of it, which other things need too
MOST_SESSIONS = 10_000
SWEEP_SECONDS = 60
# What is left to others: a tenth of a small file system, as shared memory is, but of a large disk not gigabytes.
_FREE_SHARE = 0.1
_FREE_BYTES = 64 << 20
_ID = re.compile(r"[0-9a-f]{1,12}-[A-Za-z0-9_-]{32}")
_JSON, _BYTES = b"j", b"b"


@dataclass
class Session:
    """One session, as functions see it: `context.session`. What they put stays if they raise."""

    id: str
    folder: Path
    is_closed: bool = field(default=False, init=False)

    @property
    def expires(self) -> datetime:
        """When it ends by itself."""
        return datetime.fromtimestamp(_last_second(self.id), UTC)

    @property
    def path(self) -> Path:
        """A folder for files of the function's own, removed with the session."""
        folder = self.folder / "files"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def get(self, key: str, default: Any = None) -> Any:
        """What was put under a key, or the default."""
        try:
            content = self._file(key).read_bytes()
        except FileNotFoundError:
            return default
        return content[1:] if content[:1] == _BYTES else json.loads(content[1:])

    def put(self, key: str, value: Any) -> None:
        """Keep bytes, or anything that JSON can hold. Raises TypeError for anything else, and NotEnoughMemory."""
        content = _BYTES + bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None
        if content is None:
            content = _JSON + json.dumps(value).encode()
        file = self._file(key)
        hidden = file.with_suffix(".new")
        with _space_for(self.folder, len(content), f"what session {self.id} is to keep under {key!r}"):
            hidden.write_bytes(content)
            os.replace(hidden, file)  # noqa: PTH105 - whole or not at all

    def delete(self, key: str) -> None:
        """Forget what is under a key, if anything is."""
        self._file(key).unlink(missing_ok=True)

    def close(self) -> None:
        """End the session with this request's answer."""
        self.is_closed = True

    def _file(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.value"


class Sessions:
    """All sessions of one container."""

    def __init__(self, folder: Path, seconds: float, clock: Callable[[], float] = time.time) -> None:
        """Raises PlatformInputError for a folder that cannot be used."""
        self._folder = folder
        self._seconds = seconds
        self._clock = clock
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / ".swept").touch()
        except OSError as error:
            raise PlatformInputError(
                f"sessions cannot be kept in {folder}: {error.strerror}; name a folder that can be written in "
                "SAGEMAKER_SESSIONS_PATH."
            ) from error

    def open(self) -> Session:
        """A new session. Raises NotEnoughMemory when there are too many, or too much is in them."""
        self._sweep()
        open_now = sum(1 for name in os.listdir(self._folder) if _ID.fullmatch(name))  # noqa: PTH208 - names are enough
        if open_now >= MOST_SESSIONS:
            raise NotEnoughMemory(f"{open_now} sessions are open, which is the most; close some, or let some expire.")
        name = f"{int(self._clock() + self._seconds):x}-{secrets.token_urlsafe(24)}"
        folder = self._folder / name
        with _space_for(self._folder, 4096, "a new session"):
            folder.mkdir(mode=0o700)
        return Session(name, folder)

    def take(self, name: str, deadline: float) -> "Lock":
        """A session by its id, for one request at a time; to be given back.

        Raises InvalidSession, or DeadlineExceeded while another request of the session still runs.
        """
        if time.time() - self._last_sweep() > SWEEP_SECONDS:
            self._sweep()
        session = Session(name, self._folder / self._check(name))
        try:
            file = os.open(session.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise InvalidSession(_unknown(name)) from None
        try:
            _wait_for(file, name, deadline)
            _check_exists(session)
        except BaseException:
            os.close(file)
            raise
        return Lock(session, file)

    def give_back(self, lock: "Lock") -> None:
        """Let the session's next request in, or remove what was closed."""
        if lock.session.is_closed:
            self._remove(lock.session.id)
        fcntl.flock(lock.file, fcntl.LOCK_UN)  # closing is not enough where a function has forked
        os.close(lock.file)

    def discard(self, session: Session) -> None:
        """Remove a session that nobody has been told of."""
        self._remove(session.id)

    def _check(self, name: str) -> str:
        """The id, if it can be one. No name that has not passed here becomes part of a path."""
        if not _ID.fullmatch(name):
            raise InvalidSession(f"{name[:64]!r} is no session's id; open a session with NEW_SESSION.")
        if _last_second(name) < self._clock():
            raise InvalidSession(f"session {name} has expired; open a new one with NEW_SESSION.")
        return name

    def _last_sweep(self) -> float:
        try:
            return (self._folder / ".swept").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _sweep(self) -> None:
        """Remove what has expired; a session that a request still uses is left to the next time."""
        (self._folder / ".swept").touch()
        now = self._clock()
        for name in os.listdir(self._folder):  # noqa: PTH208 - names are enough
            if _ID.fullmatch(name) and _last_second(name) < now and not _is_used(self._folder / name / "lock"):
                self._remove(name)

    def _remove(self, name: str) -> None:
        """At once for whoever asks, by a new name, and then from the disk."""
        gone = self._folder / f".gone-{name}-{os.getpid()}"
        try:
            os.replace(self._folder / name, gone)  # noqa: PTH105 - as one step
        except FileNotFoundError:
            return
        shutil.rmtree(gone, ignore_errors=True)


@dataclass(frozen=True)
class Lock:
    """A session that belongs to one request until it is given back."""

    session: Session
    file: int


def open_sessions(settings: ServeSettings, run: Path) -> Sessions:
    """The sessions of a container with this run directory. Raises PlatformInputError."""
    return Sessions(settings.session_folder or own_folder(run), settings.session_seconds)


def own_folder(run: Path, shared: Path = SHARED_MEMORY) -> Path:
    """Where sessions are kept if nobody says where: in shared memory if there is enough of it, else on the disk."""
    try:
        space = os.statvfs(shared)
    except OSError:
        return run / "sessions"
    is_enough = space.f_blocks * space.f_frsize >= ENOUGH_SHARED_MEMORY and os.access(shared, os.W_OK)
    return shared / f"{run.name}-sessions" if is_enough else run / "sessions"


def _last_second(name: str) -> int:
    return int(name.partition("-")[0], 16)


def _unknown(name: str) -> str:
    return f"session {name} is unknown or closed; open a new one with NEW_SESSION."


def _check_exists(session: Session) -> None:
    """It may have been closed while this request waited for it."""
    if not session.folder.exists():
        raise InvalidSession(_unknown(session.id))


def _is_used(lock: Path) -> bool:
    try:
        file = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _wait_for(file: int, name: str, deadline: float) -> None:
    pause = 0.001
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() + pause > deadline:
                raise DeadlineExceeded(
                    f"another request of session {name} still ran when this one's time was over."
                ) from None
            time.sleep(pause)
            pause = min(0.05, pause * 1.5)
        else:
            return


@contextmanager
def _space_for(folder: Path, size: int, what: str) -> Iterator[None]:
    """Raises NotEnoughMemory where the file system is nearly full, or found to be."""
    space = os.statvfs(folder)
    kept = int(min(_FREE_BYTES, _FREE_SHARE * space.f_blocks * space.f_frsize))
    message = f"there is no room for {what} ({size} bytes) in {folder.parent}"
    if size > space.f_bavail * space.f_frsize - kept:
        raise NotEnoughMemory(f"{message}: {kept >> 20} MB of it are kept free.")
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotEnoughMemory(f"{message}: it is full.") from error
        raise

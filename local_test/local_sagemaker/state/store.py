"""The records of all resources in one SQLite file, which many processes read and write at once.

The standard library's sqlite3 was taken before SQLAlchemy: there are three tables and no relations, and every verb pays
for the import.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from local_sagemaker.errors import ResourceInUseError, ResourceNotFoundError, TimedOutError, UsageError, ValidationError
from local_sagemaker.state.records import Kind, Record, Runner

SCHEMA_VERSION = 1
# Longer than a backup of the file takes; changes themselves take milliseconds.
BUSY_SECONDS = 60.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS resource (
    kind TEXT NOT NULL, name TEXT NOT NULL, request TEXT NOT NULL, description TEXT NOT NULL,
    created_at REAL NOT NULL, modified_at REAL NOT NULL, runner_pid INTEGER, runner_started TEXT,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metric (
    kind TEXT NOT NULL, name TEXT NOT NULL, metric TEXT NOT NULL, value REAL NOT NULL,
    timestamp REAL NOT NULL, host TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS metric_of ON metric (kind, name, metric, timestamp);
"""
COLUMNS = "kind, name, request, description, created_at, modified_at, runner_pid, runner_started"


class MetricPoint(NamedTuple):
    """One value of a time series; ``timestamp`` in seconds since the epoch."""

    metric: str
    value: float
    timestamp: float
    host: str = ""


class Store:
    """Records and metrics.

    Every change is one transaction that is written when the call returns, so a process that is killed loses none. A
    file that is removed while it is in use is missed by the next call, which would else write where nobody reads.
    Only what changes something makes the file; where it may not be written, it is read all the same.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._file: tuple[int, int] | None = None
        self._threads = threading.local()

    def create(self, kind: Kind, name: str, request: dict[str, Any], description: dict[str, Any]) -> Record:
        """Keep a new resource. Until another process claims it, the calling one is said to run it.

        Raises:
            ResourceInUseError, ValidationError: if the name is taken; which of them, as the service does.
        """
        now = time.time()
        description = {**description, "CreationTime": now}
        if kind.has_status:
            description["LastModifiedTime"] = now
        runner = Runner.here() if kind.has_status else None
        documents = (json.dumps(request), json.dumps(description))
        row = (kind, name, *documents, now, now, runner and runner.pid, runner and runner.started)
        with self._transaction() as connection:
            try:
                connection.execute(
                    f"INSERT INTO resource ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                    row,
                )
            except sqlite3.IntegrityError:
                raise _taken(kind, name) from None
        return Record(kind, name, request, description, now, now, runner)

    def get(self, kind: Kind, name: str) -> Record:
        """One resource.

        Raises:
            ResourceNotFoundError, ValidationError: if there is none; which of them, as the service does.
        """
        with self._told():
            if self._is_absent:
                raise _absent(kind, name)
            return self._read(self._connection, kind, name)

    def find(self, kind: Kind | None = None, name: str | None = None) -> list[Record]:
        """All resources, or those of a kind or a name; the newest first."""
        if self._is_absent:
            return []
        with self._told():
            rows = self._connection.execute(
                f"SELECT {COLUMNS} FROM resource WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR name = ?2)"  # noqa: S608
                " ORDER BY created_at DESC, name DESC",
                (kind, name),
            ).fetchall()
        return [_record(row) for row in rows]

    def change(self, kind: Kind, name: str, change: Callable[[dict[str, Any]], object]) -> Record:
        """Change a resource's description in place, in one transaction with the reading of it.

        Raises:
            ResourceNotFoundError, ValidationError: if there is none.
        """
        with self._transaction() as connection:
            record = self._read(connection, kind, name)
            description = record.description
            change(description)
            now = max(time.time(), record.modified_at)  # clocks are set back, what is recorded goes on
            if kind.has_status:
                description["LastModifiedTime"] = now
            connection.execute(
                "UPDATE resource SET description = ?, modified_at = ? WHERE kind = ? AND name = ?",
                (json.dumps(description), now, kind, name),
            )
            return self._read(connection, kind, name)

    def request_stop(self, kind: Kind, name: str) -> Record:
        """Set the status to Stopping, unless the resource has ended; whoever runs it sees to the rest."""

        def stop(description: dict[str, Any]) -> None:
            if description.get(kind.status_key) not in {"Completed", "Failed", "Stopped"}:
                description[kind.status_key] = "Stopping"

        return self.change(kind, name, stop)

    def claim(self, kind: Kind, name: str) -> Record:
        """The calling process runs the resource from now on."""
        return self._set_runner(kind, name, Runner.here())

    def release(self, kind: Kind, name: str) -> Record:
        """Nobody runs it any more."""
        return self._set_runner(kind, name, None)

    def assign(self, kind: Kind, name: str, runner: Runner) -> Record:
        """Another process, which was just started, runs it from now on."""
        return self._set_runner(kind, name, runner)

    def take_over(self, record: Record) -> bool:
        """The calling process sees to the resource from now on, unless somebody else came first since it was read."""
        here, former = Runner.here(), record.runner
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE resource SET runner_pid = ?, runner_started = ?"
                " WHERE kind = ? AND name = ? AND runner_pid IS ? AND runner_started IS ?",
                (
                    *(here.pid, here.started, record.kind, record.name),
                    *((former.pid, former.started) if former else (None, None)),
                ),
            )
            return changed.rowcount == 1

    def delete(self, kind: Kind, name: str) -> None:
        """Forget a resource and its metrics; fine if there is none."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM resource WHERE kind = ? AND name = ?", (kind, name))
            connection.execute("DELETE FROM metric WHERE kind = ? AND name = ?", (kind, name))

    def put_metrics(self, kind: Kind, name: str, points: Iterable[MetricPoint]) -> None:
        """Add points to a resource's time series."""
        rows = [(kind, name, *point) for point in points]
        if not rows:
            return
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO metric (kind, name, metric, value, timestamp, host) VALUES (?, ?, ?, ?, ?, ?)", rows
            )

    def metrics(self, kind: Kind, name: str, metric: str | None = None) -> list[MetricPoint]:
        """A resource's time series in the order in which it came, which is that of time unless a clock was set back."""
        if self._is_absent:
            return []
        with self._told():
            rows = self._connection.execute(
                "SELECT metric, value, timestamp, host FROM metric"
                " WHERE kind = ? AND name = ? AND (?3 IS NULL OR metric = ?3) ORDER BY rowid",
                (kind, name, metric),
            ).fetchall()
        return [MetricPoint(*row) for row in rows]

    def data_version(self) -> int:
        """A number that changes when another connection has written; cheap enough to ask ten times a second."""
        with self._told():
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def _set_runner(self, kind: Kind, name: str, runner: Runner | None) -> Record:
        with self._transaction() as connection:
            self._read(connection, kind, name)
            connection.execute(
                "UPDATE resource SET runner_pid = ?, runner_started = ? WHERE kind = ? AND name = ?",
                (runner and runner.pid, runner and runner.started, kind, name),
            )
            return self._read(connection, kind, name)

    def _read(self, connection: sqlite3.Connection, kind: Kind, name: str) -> Record:
        row = connection.execute(
            f"SELECT {COLUMNS} FROM resource WHERE kind = ? AND name = ?",  # noqa: S608 - a constant
            (kind, name),
        ).fetchone()
        if row is None:
            raise _absent(kind, name)
        return _record(row)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite itself takes it back when the disk is full
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say in words what is the matter with the file."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise _unusable(self._database, error) from error

    @property
    def _is_absent(self) -> bool:
        """Whether nothing was ever kept here; a file that was there and is gone is another matter."""
        return self._file is None and not self._database.exists()

    @property
    def _connection(self) -> sqlite3.Connection:
        """The calling thread's own; a connection is not to be shared, nor carried over a fork."""
        if self._file is not None and _identity(self._database) != self._file:
            raise _gone(self._database)
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = self._threads.connection = self._open()
            self._file = _identity(self._database)
        return connection

    def _open(self) -> sqlite3.Connection:
        _refuse_cut_off(self._database)
        try:
            if self._database.exists() and not os.access(self._database.parent, os.W_OK):
                return _open_to_read(self._database)
            self._database.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._database, timeout=BUSY_SECONDS, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            version = int(connection.execute("PRAGMA user_version").fetchone()[0])
            if version == 0:
                connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
                version = SCHEMA_VERSION
        except OSError as error:
            raise UsageError(
                f"{error.filename or self._database.parent} cannot be made: {error.strerror}",
                "a project's records are kept below its .byoc",
                "give yourself the right to write there, or make room",
            ) from error
        except sqlite3.DatabaseError as error:
            raise _unusable(self._database, error) from error
        if version != SCHEMA_VERSION:
            raise _other_layout(self._database, version)
        return connection


def _open_to_read(database: Path) -> sqlite3.Connection:
    """SQLite keeps files of its own beside a database that it reads, unless it is told that nobody writes there."""
    changes = Path(f"{database}-wal")
    mode = "mode=ro" if changes.exists() and changes.stat().st_size else "immutable=1"
    connection = sqlite3.connect(
        f"{database.resolve().as_uri()}?{mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
    )
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != SCHEMA_VERSION:
        raise _other_layout(database, version)
    return connection


def _other_layout(database: Path, version: int) -> UsageError:
    return UsageError(
        f"{database} has layout {version}",
        f"this byoc knows layout {SCHEMA_VERSION}",
        "use the byoc that made it, or move the project's .byoc away",
    )


def _record(row: tuple[Any, ...]) -> Record:
    kind, name, request, description, created_at, modified_at, pid, started = row
    runner = None if pid is None else Runner(pid, started)
    return Record(Kind(kind), name, json.loads(request), json.loads(description), created_at, modified_at, runner)


def _identity(file: Path) -> tuple[int, int] | None:
    """Tells a file from another one of its name; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _gone(database: Path) -> UsageError:
    return UsageError(
        f"{database} was removed or replaced while it was in use",
        "expected the project's .byoc to stay while something runs",
        "what ran has no record any more and is ended; run it again",
    )


def _refuse_cut_off(database: Path) -> None:
    """SQLite takes an empty file for a new one, and throws away the changes that are kept beside it."""
    changes = Path(f"{database}-wal")
    with suppress(OSError):
        if database.stat().st_size == 0 and changes.stat().st_size > 0:
            raise UsageError(
                f"{database} is empty, and changes of it are kept in {changes.name}",
                "expected the records of this project's jobs and endpoints",
                "end what runs; then put a copy of the file back, or remove both: jobs' own files stay",
            )


def _unusable(database: Path, error: sqlite3.DatabaseError) -> UsageError | TimedOutError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return TimedOutError(
            f"{database} has been locked by another program for {BUSY_SECONDS:g} s",
            "each byoc locks it for milliseconds",
            "end the program that has it open (`fuser` names it), and try again",
        )
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")):
        return UsageError(
            f"{database} cannot be written: {error}",
            "a project's records are kept below its .byoc",
            "make room, or give yourself the right to write there; what was written before is as it was",
        )
    return UsageError(
        f"{database} cannot be read: {error}",
        "expected the records of this project's jobs and endpoints",
        "put a copy of the file back, or remove it: jobs' own files stay, their records are lost",
    )


def _taken(kind: Kind, name: str) -> ResourceInUseError | ValidationError:
    if kind.is_job:
        return ResourceInUseError(
            f"{kind.words.capitalize()} names must be unique within an AWS account and region, "
            f"and a {kind.words} with this name already exists ({name})",
            f"give another name, or free this one with `byoc rm {name}`",
        )
    noun = kind.words.replace("config", "configuration")
    return ValidationError(f'Cannot create already existing {noun} "{name}".', "give another name, or delete it first")


def _absent(kind: Kind, name: str) -> ResourceNotFoundError | ValidationError:
    if kind.is_job:
        return ResourceNotFoundError(f"Requested resource not found: {kind.words} {name}.", "see `byoc ps --all`")
    return ValidationError(
        f'Could not find {kind.words.replace("config", "configuration")} "{name}".', "see `byoc ps --all`"
    )

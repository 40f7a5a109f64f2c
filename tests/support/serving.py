"""Run the `serve` executable with real gunicorn, and real nginx where it is installed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.places import RUNTIME
from tests.support.ports import free_port
from tests.support.processes import Process, children, descendants
from tests.support.training import job_environment
from tests.support.waiting import wait_until


class Endpoint:
    """A running `serve`; as a context manager it never outlives its block."""

    def __init__(
        self, tree: OptMl, log: Path, env: Mapping[str, str] | None = None, starter: Sequence[str] = ()
    ) -> None:
        """Start serving ``tree`` on a free port of 127.0.0.1; both streams go to the file ``log``.

        starter: a command that becomes the one it is given.
        """
        self.tree = tree
        self.port = free_port()
        self._log = log
        places = {
            "SAGEMAKER_BIND_TO_PORT": str(self.port),
            "BYOC_BIND_HOST": "127.0.0.1",
            "SAGEMAKER_MODEL_SERVER_WORKERS": "1",
        }
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*starter, sys.executable, str(RUNTIME / "serve")],
                env=job_environment(tree, {**places, **(env or {})}),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        family = self.family()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGKILL)

    @property
    def log(self) -> str:
        """All it has written up to now."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ping(self, method: str = "GET", seconds: float = 60.0) -> Reply:
        """Ask for its health."""
        return request(self.port, method, "/ping", b"" if method == "POST" else None, {}, seconds)

    def invoke(
        self,
        body: bytes | Iterable[bytes],
        content_type: str | None = "application/json",
        accept: str | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Reply:
        """Ask for a prediction; a header given as None is not sent."""
        sent = dict(headers or {})
        if content_type is not None:
            sent["Content-Type"] = content_type
        if accept is not None:
            sent["Accept"] = accept
        return request(self.port, "POST", "/invocations", body, sent, seconds)

    def wait_for_status(self, status: int, seconds: float = 180.0) -> None:
        """Wait until /ping answers with ``status``; fails at once, with the log, when the server ends."""
        wait_until(lambda: self._ping_status() == status, f"/ping to answer {status}", seconds, self._ended)

    def wait_until_ready(self, seconds: float = 180.0) -> "Endpoint":
        """Wait until /ping answers 200."""
        self.wait_for_status(200, seconds)
        return self

    def wait_for_line(self, text: str, seconds: float = 180.0) -> None:
        """Wait until ``text`` appears in the log; fails at once when the server ends without it."""
        self.wait_for_lines(text, 1, seconds)

    def wait_for_lines(self, text: str, count: int, seconds: float = 180.0) -> None:
        """Wait until ``text`` has appeared so often in the log; fails at once when the server ends without it."""
        what = f"{text!r} in the server's log" if count == 1 else f"{text!r} {count} times in the server's log"
        try:
            wait_until(lambda: self.log.count(text) >= count, what, seconds, self._ended)
        except AssertionError as error:
            error.add_note(f"its log ends with:\n{self.log[-4000:]}")
            raise

    def terminate(self) -> None:
        """Stop it the way the platform does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = 60.0) -> int:
        """The exit code, waiting for it up to ``seconds``."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"serve did not end within {seconds:g} s; its log:\n{self.log}") from None

    def family(self) -> list[Process]:
        """Every process below `serve` at this moment."""
        return descendants(self.process.pid)

    def child(self, word: str) -> Process:
        """The direct child whose command line has ``word`` in it: the master of nginx or of gunicorn.

        One that has just been forked has the command line of `serve` for a moment, so it is waited for.
        """
        found: list[Process] = []

        def is_there() -> bool:
            found[:] = [child for child in children(self.process.pid) if word in child.command]
            return len(found) == 1

        wait_until(is_there, f"one {word} master", ended=self._ended)
        return found[0]

    def workers(self) -> set[int]:
        """The process ids of the gunicorn workers."""
        return {worker.pid for worker in children(self.child("gunicorn").pid)}

    def _ping_status(self) -> int | None:
        try:
            return self.ping(seconds=5).status
        except OSError:
            return None

    def _ended(self) -> str | None:
        code = self.process.poll()
        return None if code is None else f"serve ended with exit code {code}; its log:\n{self.log}"

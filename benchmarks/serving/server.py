"""Start a server, wait until it is ready, see that it answers right, stop it."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.account import Account, open_account, wait_for
from benchmarks.serving.peer import Case, Peer, Start
from benchmarks.serving.workloads import INSIDE, Workload

POLL = 0.005
PRIVATE = ("SM_", "SAGEMAKER_", "BYOC_", "AWS_", "BENCH_", "MLSERVER_", "BENTOML_", "RAY_")
# One math thread in each process that has a core for itself is what every server's documentation asks for.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ServerFailed(Exception):
    """A server that did not start or answered wrong; the message says which and shows the end of its log."""


def free_port() -> int:
    """A port that nothing listens on at this moment, below those that clients are given."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(case: Case, start: Start) -> dict[str, str]:
    """What this process has, without what would change a server, and with what the case asks of its program."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE)}
    kept["PATH"] = os.pathsep.join([str(Path(case.python).parent), kept.get("PATH", os.defpath), "/usr/sbin"])
    return {**kept, **asked(case), **start.environ}


def asked(case: Case) -> dict[str, str]:
    """What the programs in inside/ read."""
    return {
        **ONE_THREAD,
        "PYTHONPATH": str(INSIDE),
        "PYTHONUNBUFFERED": "1",
        "BENCH_WORKLOAD": case.workload.name,
        "BENCH_FOLDER": str(case.model),
        "BENCH_WORKERS": str(case.workers),
        "BENCH_ROWS": str(case.rows),
        "BENCH_WINDOW": str(case.window),
        "BENCH_PORT": str(case.port),
        # Each server has its own: one that is stopped between its turns may hold it.
        "BENCH_DEVICE": str(case.work / "device"),
    }


def ask(port: int, method: str, path: str, body: bytes | None = None, seconds: float = 60.0) -> tuple[int, bytes]:
    """One request of its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    headers = {"Content-Type": "application/json", "Accept": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def body_of(peer: Peer, workload: Workload) -> bytes:
    """The request as this server wants it; its own bytes unchanged where it takes the common one."""
    return json.dumps(peer.wrap(json.loads(workload.payload()))).encode()


class Server:
    """A server's processes; `close` ends them whatever happens."""

    def __init__(self, peer: Peer, case: Case) -> None:
        self.peer, self.case = peer, case
        self.account: Account = open_account(f"{peer.name}-{case.port}")
        self.log = case.work / "server.log"
        self.body = body_of(peer, case.workload)
        start = peer.start(case)
        self.began = time.monotonic()
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                self.account.wrap(start.command),
                env=environment(case, start),
                cwd=case.work,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.account.adopt(self.process.pid)

    @property
    def path(self) -> str:
        stream_path = self.peer.stream_path if self.case.workload.streams else None
        return stream_path or self.peer.invoke_path

    def wait_until_ready(self) -> float:
        """Seconds from its start to the first 200 on the path that says it is ready. Raises ServerFailed."""
        until = self.began + self.peer.start_seconds
        while not is_ready(self.case.port, self.peer.ready_path):
            if self.process.poll() is not None or time.monotonic() > until:
                raise self.failure("did not become ready")
            time.sleep(POLL)
        return time.monotonic() - self.began

    def check(self, predictions: list[Any]) -> None:
        """Raises ServerFailed unless it answers as the model does."""
        try:
            status, body = ask(self.case.port, "POST", self.path, self.body)
        except (OSError, http.client.HTTPException) as error:
            raise self.failure(f"gave no answer: {error!r}") from error
        if self.case.workload.streams:
            if status != 200 or b"x" * 100 not in body:
                raise self.failure(f"answered {status} {body[:300]!r} to a stream")
            return
        try:
            answer = self.peer.unwrap(json.loads(body)) if status == 200 else None
        except (ValueError, KeyError, TypeError, IndexError):
            answer = None
        if not same(answer, predictions):
            raise self.failure(f"answered {status} {body[:300]!r}, the model says {str(predictions)[:200]}")

    def freeze(self, frozen: bool) -> None:
        """Stop all of its processes, or let them go on; one that does not bear it just stays idle."""
        if self.peer.freezes:
            self.account.freeze(frozen)

    def failure(self, what: str) -> ServerFailed:
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2500:]
        return ServerFailed(f"{self.peer.title}, {self.case.workload.name}: {what}; its log ends:\n{tail}")

    def close(self) -> bool:
        """Ask it to end, then kill what is left; whether it ended by itself within ten seconds."""
        if self.process.poll() is None:
            self.process.terminate()
        ended = wait_for(lambda: self.process.poll() is not None, 10)
        self.account.end()
        self.process.wait()
        return ended


def is_ready(port: int, path: str) -> bool:
    try:
        return ask(port, "GET", path, seconds=5)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def same(left: Any, right: Any) -> bool:
    """Equal lists of numbers, but for the last digits of single precision."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(one, other) for one, other in zip(left, right, strict=True))
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    return numbers and math.isclose(left, right, rel_tol=1e-4, abs_tol=1e-5)

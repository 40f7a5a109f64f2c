"""How workers tell each other that a model's record has changed: a socket and a thread of each, for nothing else.

Not by HTTP over the slots' sockets: their threads may all wait for the very load that they would have to answer for,
and what callers can reach must not be able to load anything.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNLOAD_SECONDS = 60.0  # for collecting what a large model has left behind
Message = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeerReply:
    """What one worker has answered; None when it died before it could, or was too slow."""

    pid: int
    content: Message | None
    is_late: bool = False


class Peers:
    """One worker's ear, and its voice to the others."""

    def __init__(self, folder: Path, answer: Callable[[Message], Message]) -> None:
        self._folder = folder
        self._answer = answer

    def listen(self) -> None:
        """Answer the others from now on, in a thread."""
        path = self._folder / f"worker-{os.getpid()}.peer"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=self._serve, args=(listener,), name="model-peer", daemon=True).start()

    def tell(self, message: Message, seconds: float, at_most: int | None = None) -> list[PeerReply]:
        """Send a message to all other workers that live, or to so many of the youngest; returns what each has answered
        within the time.
        """
        others = self._others()[:at_most]
        connections = [(pid, peer) for pid in others if (peer := self._connect(pid)) is not None]
        if not connections:
            return []
        with ThreadPoolExecutor(len(connections)) as pool:
            return list(pool.map(lambda one: self._ask(one[0], one[1], message, seconds), connections))

    def have_unloaded(self, name: str, seconds: float) -> bool:
        """Have all others let a model go that is not to be loaded; False where requests in it take longer.

        A worker that has died holds nothing any more.
        """
        replies = self.tell({"model": name, "seconds": seconds}, seconds + UNLOAD_SECONDS)
        done = [reply.content.get("done", False) if reply.content else not reply.is_late for reply in replies]
        return all(done)

    def wait_for(self, count: int, seconds: float) -> None:
        """Until so many others listen: one may have died a moment ago, and its successor is on its way."""
        deadline = time.monotonic() + seconds
        while self.count() < count and time.monotonic() < deadline:
            time.sleep(0.05)

    def count(self) -> int:
        """How many other workers listen."""
        return len(self._others())

    def _others(self) -> list[int]:
        found = []
        for path in sorted(self._folder.glob("worker-*.peer")):
            pid = int(path.stem.removeprefix("worker-"))
            if not Path("/proc", str(pid)).exists():
                path.unlink(missing_ok=True)
            elif pid != os.getpid():
                found.append(pid)
        return sorted(found, reverse=True)

    def _connect(self, pid: int) -> socket.socket | None:
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            peer.connect(str(self._folder / f"worker-{pid}.peer"))
        except (FileNotFoundError, ConnectionRefusedError):  # it ends, or another process has its number by now
            peer.close()
            return None
        return peer

    def _ask(self, pid: int, peer: socket.socket, message: Message, seconds: float) -> PeerReply:
        with peer:
            try:
                peer.settimeout(seconds)
                peer.sendall(json.dumps(message).encode() + b"\n")
                with peer.makefile("rb") as stream:
                    line = stream.readline()
            except TimeoutError:
                return PeerReply(pid, None, is_late=True)
            except OSError:
                return PeerReply(pid, None)
        return PeerReply(pid, json.loads(line) if line.endswith(b"\n") else None)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError, ValueError):  # who asked may have died
                with peer.makefile("rb") as stream:
                    line = stream.readline()
                peer.sendall(json.dumps(self._answer_safely(json.loads(line))).encode() + b"\n")

    def _answer_safely(self, message: Message) -> Message:
        try:
            return self._answer(message)
        except BaseException as error:
            log.exception("the runtime failed at %s", message)
            return {"error": type(error).__name__, "message": str(error), "status": 500}

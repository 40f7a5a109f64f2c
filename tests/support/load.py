"""Many clients at once, each on a connection of its own that it keeps, and every answer they got."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Load:
    """What came back so far: how often each status, and what went wrong below HTTP."""

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    bodies: Counter[bytes] = field(default_factory=Counter)

    @property
    def answered(self) -> int:
        return self.statuses.total()


@contextmanager
def clients(port: int, number: int, body: bytes, headers: Mapping[str, str] | None = None) -> Iterator[Load]:
    """Ask /invocations again and again for the time of the block; no request is ever sent twice."""
    load = Load()
    over = threading.Event()
    sent = {"Content-Type": "application/json", **(headers or {})}

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not over.is_set():
            try:
                connection.request("POST", "/invocations", body, sent)
                reply = connection.getresponse()
                load.bodies[reply.read()] += 1
                load.statuses[reply.status] += 1
            except (OSError, http.client.HTTPException) as error:
                load.failures.append(repr(error))
                connection.close()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join(30)

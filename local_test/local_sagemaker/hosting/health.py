"""The platform's health check: GET /ping, a connection within 250 ms, an answer within two seconds.

Source: SageMaker developer guide, "Custom Inference Code with Hosting Services".
"""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass, field

CONNECT_SECONDS = 0.25
ANSWER_SECONDS = 2.0
HEALTHY = "status 200"
MOST_RUNS = 6


def ping(host: str, port: int) -> str:
    """What one health check found: ``status 200``, another status, or why there was no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
    except TimeoutError:
        return f"no connection within {CONNECT_SECONDS * 1000:.0f} ms"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    try:
        _set_timeout(connection.sock)
        connection.request("GET", "/ping")
        return f"status {connection.getresponse().status}"
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {getattr(error, 'strerror', None) or type(error).__name__}".lower()
    finally:
        connection.close()


def _set_timeout(connected: socket.socket) -> None:
    connected.settimeout(ANSWER_SECONDS)


@dataclass
class PingHistory:
    """What an instance's health checks found, runs of the same counted."""

    runs: list[tuple[str, int]] = field(default_factory=list)

    def add(self, found: str) -> None:
        """Remember one check."""
        if self.runs and self.runs[-1][0] == found:
            self.runs[-1] = (found, self.runs[-1][1] + 1)
        else:
            self.runs = [*self.runs[-MOST_RUNS + 1 :], (found, 1)]

    @property
    def failures_in_a_row(self) -> int:
        """How many checks failed since the last healthy one."""
        count = 0
        for found, times in reversed(self.runs):
            if found == HEALTHY:
                break
            count += times
        return count

    def __str__(self) -> str:
        return ", then ".join(f"{found} x{times}" if times > 1 else found for found, times in self.runs) or "none"

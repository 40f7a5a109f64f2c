"""Wait until every host of the job can be found by its name; say who is missing meanwhile."""

import socket
import sys
import time
from collections.abc import Callable, Iterable

from sagemaker_byoc.errors import HostLostError

TRY_SECONDS = 0.25
SAY_SECONDS = 5.0


def wait_for_names(hosts: Iterable[str], limit_seconds: float, pause: Callable[[float], None]) -> None:
    """Return once every name resolves. `pause` waits a moment, and raises when the job is stopped.

    Raises HostLostError when a name does not resolve within `limit_seconds`.
    """
    waiting = Waiting("the names of hosts", limit_seconds)
    missing = [host for host in hosts if address_of(host) is None]
    while missing:
        waiting.say(f"{', '.join(missing)} to resolve")
        pause(TRY_SECONDS)
        missing = [host for host in missing if address_of(host) is None]


def address_of(host: str) -> str | None:
    """The IPv4 address of a host, or None while its name does not resolve."""
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


class Waiting:
    """A limit on waiting, and a line in the log every five seconds of it."""

    def __init__(self, what: str, limit_seconds: float) -> None:
        self._what = what
        self._limit = limit_seconds
        self._began = time.monotonic()
        self._said = self._began

    def say(self, missing: str) -> None:
        """Still waiting for `missing`. Raises HostLostError when the limit is over."""
        now = time.monotonic()
        if now - self._began > self._limit:
            raise HostLostError(
                f"waited {self._limit:g} s for {self._what}: {missing}. Every host of resourceconfig.json must run "
                "this image in the same network; BYOC_DNS_TIMEOUT_SECONDS sets the limit."
            )
        if now - self._said >= SAY_SECONDS:
            self._said = now
            left = self._limit - (now - self._began)
            print(f"sagemaker-byoc: waiting for {missing}, for {left:.0f} s at most", file=sys.stderr, flush=True)

"""Stateful sessions: which instance holds a session, until it is closed or expires."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

NEW_SESSION = b"NEW_SESSION"
DEFAULT_SECONDS = 1200.0
SWEEP_AT = 10_000


@dataclass(frozen=True)
class Session:
    """Where a session lives, and until when (seconds of the epoch)."""

    instance: str
    expires: float


def read_session(header: str, now: float) -> tuple[str, float]:
    """Id and expiry of a container's answer ``ID; Expires=YYYY-MM-DDThh:mm:ssZ``; without expiry 20 minutes."""
    identity, _, rest = header.partition(";")
    expires = now + DEFAULT_SECONDS
    name, _, value = rest.strip().partition("=")
    if name.lower() == "expires":
        with suppress(ValueError):
            expires = datetime.strptime(value.strip(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    return identity.strip(), expires


class Sessions:
    """The open sessions of an endpoint."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, header: str, instance: str) -> None:
        """A container has opened a session."""
        now = time.time()
        identity, expires = read_session(header, now)
        if len(self._open) >= SWEEP_AT:
            self._open = {key: one for key, one in self._open.items() if one.expires > now}
        self._open[identity] = Session(instance, expires)

    def closed(self, header: str) -> None:
        """A container has closed a session."""
        self._open.pop(header.partition(";")[0].strip(), None)

    def find(self, identity: str) -> str | None:
        """The instance that holds a session, or None if there is no such session or it has expired."""
        session = self._open.get(identity)
        if session is None:
            return None
        if session.expires <= time.time():
            del self._open[identity]
            return None
        return session.instance

    def lose(self, instances: set[str]) -> None:
        """Forget the sessions of instances that are gone."""
        self._open = {key: one for key, one in self._open.items() if one.instance not in instances}

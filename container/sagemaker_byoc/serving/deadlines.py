"""How the 30 seconds between SIGTERM and SIGKILL are spent, and how long a worker may stand still; in seconds."""

from dataclasses import dataclass

DRAIN_SECONDS = 24  # requests in flight may finish
STOP_SECONDS = 28  # after this, what is still there is killed


@dataclass(frozen=True)
class Limits:
    """How long a worker may take: to load its model, and afterwards between two signs of life of its main loop."""

    loading: float
    serving: float

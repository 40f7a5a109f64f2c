"""Nothing a server could call."""

ANSWER = 42

"""How the 30 seconds between SIGTERM and SIGKILL are spent, in seconds."""

DRAIN_SECONDS = 24  # requests in flight may finish
STOP_SECONDS = 28  # after this, what is still there is killed

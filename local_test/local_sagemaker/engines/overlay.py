"""A folder laid over another one that takes its changes: options of Docker's local volume driver.

Taken before a copy, which for a channel of gigabytes is no start, and before a read-only mount, where a job that may
write to its channel on the platform fails.
"""

from __future__ import annotations

from pathlib import Path

UPPER, WORK = "upper", "work"


def overlay_options(source: Path, changes: Path) -> dict[str, str]:
    """What the driver mounts; neither path may have a comma, a colon or a backslash."""
    return {
        "type": "overlay",
        "device": "overlay",
        "o": f"lowerdir={source},upperdir={changes / UPPER},workdir={changes / WORK}",
    }


def make_changes(changes: Path) -> None:
    """Make the folders that the driver expects."""
    for part in (UPPER, WORK):
        (changes / part).mkdir(parents=True, exist_ok=True)

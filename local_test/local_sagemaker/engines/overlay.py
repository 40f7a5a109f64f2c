"""A folder laid over another one that takes its changes: options of Docker's local volume driver.

Taken before a copy, which for a channel of gigabytes is no start, and before a read-only mount, where a job that may
write to its channel on the platform fails.
"""

from __future__ import annotations

import re
from pathlib import Path

UPPER, WORK = "upper", "work"
# What separates the parts of the kernel's options for an overlay, unless a backslash stands before it.
SEPARATOR, ESCAPED = re.compile(r"([:,\\])"), r"\\\1"


def overlay_options(source: Path, changes: Path) -> dict[str, str]:
    """What the driver mounts."""
    folders = {"lowerdir": source, "upperdir": changes / UPPER, "workdir": changes / WORK}
    options = ",".join(f"{name}={SEPARATOR.sub(ESCAPED, str(folder))}" for name, folder in folders.items())
    return {"type": "overlay", "device": "overlay", "o": options}


def make_changes(changes: Path) -> None:
    """Make the folders that the driver expects."""
    for part in (UPPER, WORK):
        (changes / part).mkdir(parents=True, exist_ok=True)

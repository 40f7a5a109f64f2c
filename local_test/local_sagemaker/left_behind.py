"""Files that a container leaves for the platform to read, whatever it has made of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_beginning(path: Path, size: int) -> bytes:
    """The first ``size`` bytes of a file; nothing where there is no file of the container's own.

    A link would be followed on this machine, to its files, and a pipe would be waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)

"""How many files an endpoint's process may have open: each connection of a client or to a container is one."""

from __future__ import annotations

import resource

WANTED = 65_536


def allow_open_files(wanted: int = WANTED) -> int:
    """Raise this process's own limit as far as it may be, up to ``wanted``; the limit that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= possible:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
    return possible

"""How many files the servers may have open: behind nginx each request in flight is two of its."""

import resource

WANTED = 65_536


def allow_open_files(wanted: int = WANTED) -> None:
    """Raise the limit of this process and of those it starts as far as it may be, up to ``wanted``; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < possible:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))

"""What the kernel's control group says about memory: the limit, the peak, and how many processes were killed for it.

Source: Linux kernel documentation, "Memory Resource Controller" (version 1) and "Control Group v2".
"""

from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.settings import CGROUP

GIB = 1024**3
MIB = 1024**2
# Version 1 writes "no limit" as the largest number of whole pages, just below 2**63.
_NO_LIMIT = 2**60
# A peak this near to the limit means that the limit was what stopped it: the kernel kills a little before or after.
_NEAR = 0.95


@dataclass(frozen=True)
class MemoryReading:
    """One look at the control group, sizes in bytes; None where the kernel does not say, or sets no limit."""

    limit: int | None
    peak: int | None
    oom_kills: int | None


def read_memory(cgroup: Path = CGROUP) -> MemoryReading:
    """Read version 2's files if they are there, else version 1's. Never raises: what cannot be read is None.

    Inside a container these are the container's own; elsewhere they may be the whole machine's.
    """
    if (cgroup / "memory.events").exists():
        limit = _number(cgroup / "memory.max")
        # Kernels before 5.19 keep no peak; what is used after a kill would be no figure to show in its place.
        return MemoryReading(limit, _number(cgroup / "memory.peak"), _kills(cgroup / "memory.events"))
    folder = cgroup / "memory"
    limit = _number(folder / "memory.limit_in_bytes")
    return MemoryReading(
        limit=None if limit is None or limit >= _NO_LIMIT else limit,
        peak=_number(folder / "memory.max_usage_in_bytes"),
        oom_kills=_kills(folder / "memory.oom_control"),
    )


def describe_out_of_memory(before: MemoryReading, after: MemoryReading) -> str | None:
    """A sentence with the figures if the kernel killed for want of memory between the two readings, else None."""
    if before.oom_kills is None or after.oom_kills is None or after.oom_kills <= before.oom_kills:
        return None
    killed = after.oom_kills - before.oom_kills
    return (
        f"out of memory: the kernel killed {killed} process{'es' if killed > 1 else ''} {_where(after)}; "
        "use an instance with more memory, or smaller batches"
    )


def _where(reading: MemoryReading) -> str:
    peak = "" if reading.peak is None else f" (peak {_size(reading.peak)})"
    if reading.limit is None:
        return f"because the machine's memory ran out, the container has no limit of its own{peak}"
    if reading.peak is not None and reading.peak < _NEAR * reading.limit:
        return f"because the machine's memory ran out, below the container's limit of {_size(reading.limit)}{peak}"
    return f"at the container's limit of {_size(reading.limit)}{peak}"


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _number(path: Path) -> int | None:
    """The number in a file; None for `max`, and for a file that is absent or says something else."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _kills(path: Path) -> int | None:
    """The value of the line `oom_kill N`."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    except (OSError, ValueError, IndexError):
        return None

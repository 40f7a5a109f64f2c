"""What the kernel says about memory: the control group's limit and peak, how many processes were killed for it, what is
still unused, and what this process holds.

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


def unused_memory(cgroup: Path = CGROUP, machine: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that may still be taken: what the control group's limit leaves, or what the machine has where that is less.

    Pages that the kernel keeps only as a copy of a file count as unused. None where the kernel says neither.
    """
    found = [left for left in (_left_below_limit(cgroup), _field(machine, "MemAvailable:", 1024)) if left is not None]
    return min(found, default=None)


def held_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes that this process holds and that the kernel cannot take back: all but the pages that files back.

    0 where the kernel does not say.
    """
    return sum(_field(status, name, 1024) or 0 for name in ("RssAnon:", "RssShmem:"))


def describe_out_of_memory(before: MemoryReading, after: MemoryReading) -> str | None:
    """A sentence with the figures if the kernel killed for want of memory between the two readings, else None."""
    if before.oom_kills is None or after.oom_kills is None or after.oom_kills <= before.oom_kills:
        return None
    killed = after.oom_kills - before.oom_kills
    return (
        f"out of memory: the kernel killed {killed} process{'es' if killed > 1 else ''} {_where(after)}; "
        "use an instance with more memory, or smaller batches"
    )


def _left_below_limit(cgroup: Path) -> int | None:
    limit = read_memory(cgroup).limit
    if (cgroup / "memory.events").exists():
        used, stat, prefix = _number(cgroup / "memory.current"), cgroup / "memory.stat", ""
    else:
        used, stat, prefix = _number(cgroup / "memory/memory.usage_in_bytes"), cgroup / "memory/memory.stat", "total_"
    if limit is None or used is None:
        return None
    cached = sum(_field(stat, f"{prefix}{name}") or 0 for name in ("inactive_file", "active_file"))
    return limit - used + cached


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
    return _field(path, "oom_kill")


def _field(path: Path, name: str, unit: int = 1) -> int | None:
    """The value of the line `NAME N`; None where there is no such line or file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((int(line.split()[1]) * unit for line in lines if line.startswith((f"{name} ", f"{name}\t"))), None)
    except (OSError, ValueError, IndexError):
        return None

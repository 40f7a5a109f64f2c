"""Out-of-memory kills, from control-group files as kernels write them."""

from pathlib import Path

import pytest
from sagemaker_byoc.memory import (
    MemoryReading,
    describe_out_of_memory,
    held_memory,
    read_memory,
    unused_memory,
)

MIB = 1024**2
GIB = 1024**3


def version_1(folder: Path, limit: str, peak: str, control: str) -> Path:
    (folder / "memory").mkdir()
    (folder / "memory/memory.limit_in_bytes").write_text(limit)
    (folder / "memory/memory.max_usage_in_bytes").write_text(peak)
    (folder / "memory/memory.oom_control").write_text(control)
    return folder


def version_2(folder: Path, limit: str, peak: str | None, events: str) -> Path:
    (folder / "memory.max").write_text(limit)
    (folder / "memory.current").write_text("123\n")
    (folder / "memory.events").write_text(events)
    if peak is not None:
        (folder / "memory.peak").write_text(peak)
    return folder


def test_version_1_is_read(tmp_path: Path) -> None:
    """1.11."""
    cgroup = version_1(tmp_path, "268435456\n", "268435456\n", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert read_memory(cgroup) == MemoryReading(256 * MIB, 256 * MIB, 3)


def test_version_1_without_a_limit_has_none_whatever_the_page_size(tmp_path: Path) -> None:
    """1.11."""
    cgroup = version_1(tmp_path, "9223372036854710272\n", "5\n", "oom_kill 0\n")
    assert read_memory(cgroup) == MemoryReading(None, 5, 0)


def test_version_2_is_read(tmp_path: Path) -> None:
    """1.11."""
    events = "low 0\nhigh 0\nmax 812\noom 4\noom_kill 2\noom_group_kill 0\n"
    assert read_memory(version_2(tmp_path, "2147483648\n", "2147483640\n", events)) == MemoryReading(
        2 * GIB, 2 * GIB - 8, 2
    )


def test_version_2_of_an_old_kernel_has_no_peak_and_none_is_made_up(tmp_path: Path) -> None:
    """1.11."""
    assert read_memory(version_2(tmp_path, "max\n", None, "oom_kill 0\n")) == MemoryReading(None, None, 0)


@pytest.mark.parametrize("control", ["", "oom_kill\n", "oom_kill many\n", "oom_kill_disable 0\nunder_oom 0\n", "\xff"])
def test_files_that_say_something_else_are_no_error(tmp_path: Path, control: str) -> None:
    """1.11: a job must not fail for what is only told."""
    cgroup = version_1(tmp_path, "much\n", "", "")
    (cgroup / "memory/memory.oom_control").write_bytes(control.encode("latin-1"))
    assert read_memory(cgroup) == MemoryReading(None, None, None)


def test_machine_without_control_groups_is_no_error(tmp_path: Path) -> None:
    """1.11."""
    nothing = read_memory(tmp_path / "absent")
    assert nothing == MemoryReading(None, None, None)
    assert describe_out_of_memory(nothing, nothing) is None


def test_kill_at_the_limit_is_told_with_the_figures() -> None:
    """1.9, 1.11."""
    before, after = MemoryReading(2 * GIB, 10 * MIB, 0), MemoryReading(2 * GIB, 2 * GIB, 1)
    assert describe_out_of_memory(before, after) == (
        "out of memory: the kernel killed 1 process at the container's limit of 2.0 GiB (peak 2.0 GiB); "
        "use an instance with more memory, or smaller batches"
    )


def test_only_kills_in_between_count() -> None:
    """9.3: an earlier job's kills are not this one's."""
    before, after = MemoryReading(256 * MIB, None, 4), MemoryReading(256 * MIB, None, 6)
    assert "killed 2 processes at the container's limit of 256 MiB;" in (describe_out_of_memory(before, after) or "")
    assert describe_out_of_memory(after, after) is None


@pytest.mark.parametrize("limit", [None, 8 * GIB])
def test_kill_for_want_of_the_machines_memory_does_not_blame_the_limit(limit: int | None) -> None:
    """1.11."""
    text = describe_out_of_memory(MemoryReading(limit, 0, 0), MemoryReading(limit, 3 * GIB, 1)) or ""
    assert "because the machine's memory ran out" in text
    assert "peak 3.0 GiB" in text
    assert "at the container's limit" not in text


def machine(folder: Path, kilobytes: int) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal:  99999999 kB\nMemAvailable:   {kilobytes} kB\n")
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_what_the_page_cache_holds_counts_as_unused(tmp_path: Path, version: int) -> None:
    """15.24: a model whose file has been read is not refused for the copy that the kernel keeps of it."""
    if version == 1:
        folder = version_1(tmp_path, f"{GIB}", "0", "oom_kill 0\n") / "memory"
        (folder / "memory.usage_in_bytes").write_text(f"{900 * MIB}\n")
        stat = f"inactive_file 1\ntotal_inactive_file {300 * MIB}\ntotal_active_file {100 * MIB}\n"
    else:
        folder = version_2(tmp_path, f"{GIB}\n", None, "oom_kill 0\n")
        (folder / "memory.current").write_text(f"{900 * MIB}\n")
        stat = f"anon {500 * MIB}\ninactive_file {300 * MIB}\nactive_file {100 * MIB}\n"
    (folder / "memory.stat").write_text(stat)
    assert unused_memory(tmp_path, machine(tmp_path, 8 * 1024**2)) == GIB - 500 * MIB
    assert unused_memory(tmp_path, machine(tmp_path, 1024)) == MIB, "the machine has less than the limit leaves"


def test_without_a_limit_the_machine_decides(tmp_path: Path) -> None:
    """15.24."""
    version_2(tmp_path, "max\n", None, "oom_kill 0\n")
    assert unused_memory(tmp_path, machine(tmp_path, 2048)) == 2 * MIB
    assert unused_memory(tmp_path, tmp_path / "absent") is None


def test_memory_that_is_taken_and_given_back_is_seen() -> None:
    """15.24, 15.26: measured, not guessed."""
    before = held_memory()
    block = bytearray(b"x" * (64 * MIB))
    assert held_memory() - before > 60 * MIB
    del block
    assert held_memory() - before < 8 * MIB

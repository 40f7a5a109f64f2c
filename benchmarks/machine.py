"""What a table of measurements says about the machine it was made on, and the tables themselves."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

LABEL = "byoc-bench"


def ask_docker(*arguments: str) -> str:
    """Run a docker command and return what it prints, without surrounding white space."""
    asked = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return asked.stdout.strip()


def describe_machine(load_before: float) -> str:
    """One paragraph: date, machine and versions; ``load_before`` is the load average when the run began."""
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC on {describe_hardware()}. "
        f"Load average {load_before:.2f} before and {os.getloadavg()[0]:.2f} after the run."
    )


def describe_hardware() -> str:
    """The machine and its versions, without a time."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    engine = ask_docker("version", "--format", "{{.Server.Version}}")
    driver = ask_docker("info", "--format", "{{.Driver}}")
    return (
        f"{os.cpu_count()} cores and {memory:.0f} GiB of memory ({platform.machine()}), "
        f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Docker {engine} ({driver}), "
        f"Python {platform.python_version()} on the machine"
    )


def spread(values: Iterable[float], digits: int) -> list[str]:
    """Minimum, median and maximum as table cells."""
    ordered = sorted(values)
    return [f"{value:.{digits}f}" for value in (ordered[0], median(ordered), ordered[-1])]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, whose first column is text and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def publish(text: str, path: Path, *, write: bool) -> None:
    """Print the report and, if asked to, make it the file's content."""
    print(text)
    if write:
        path.write_text(text + "\n", encoding="utf-8")

"""Figures from the raw results: what a table and a goal need of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

Row = dict[str, Any]
MISSING = float("nan")


@dataclass(frozen=True)
class Results:
    """The document that a run wrote."""

    document: Row

    def cells(self, workload: str, server: str, connections: int) -> list[Row]:
        found: list[Row] = self.document["cells"]
        return [
            cell
            for cell in found
            if (cell["workload"], cell["server"], cell["connections"]) == (workload, server, connections)
        ]

    def servers(self, workload: str) -> list[str]:
        """Those that were measured with it, in the order of the run."""
        return list(dict.fromkeys(cell["server"] for cell in self.document["cells"] if cell["workload"] == workload))

    def connections(self, workload: str) -> list[int]:
        return sorted({cell["connections"] for cell in self.document["cells"] if cell["workload"] == workload})

    def rate(self, workload: str, server: str, connections: int) -> float:
        """Right answers a second: the median of the rounds."""
        return self.middle(
            workload, server, connections, lambda cell: cell["load"]["requests"] / cell["load"]["seconds"]
        )

    def latency(self, workload: str, server: str, connections: int, name: str) -> float:
        """Milliseconds: the median of the rounds."""
        return self.middle(workload, server, connections, lambda cell: cell["load"][name])

    def failed(self, workload: str, server: str) -> int:
        found = [cell for cell in self.document["cells"] if (cell["workload"], cell["server"]) == (workload, server)]
        return sum(cell["load"]["failed"] for cell in found)

    def cost(self, workload: str, server: str, connections: int) -> float:
        """Microseconds of processor time for a request: the least of the rounds, which other work spoils least."""
        values = [
            cell["cpu_seconds"] / cell["load"]["requests"] * 1e6
            for cell in self.cells(workload, server, connections)
            if cell["load"]["requests"]
        ]
        return min(values, default=MISSING)

    def memory(self, workload: str, server: str) -> float:
        found = [cell for cell in self.document["cells"] if (cell["workload"], cell["server"]) == (workload, server)]
        return max((cell["memory_megabytes"] for cell in found), default=MISSING)

    def bare_rate(self, workload: str) -> float:
        return middle([bare["rate"] for bare in self.document["bare"] if bare["workload"] == workload])

    def bare_cost(self, workload: str) -> float:
        bare = [one for one in self.document["bare"] if one["workload"] == workload]
        return min((one["cpu_seconds"] / one["items"] * 1e6 for one in bare), default=MISSING)

    def starts(self, name: str) -> dict[str, float]:
        """By server, the median of `ready`, `answered` or `settled`, in seconds."""
        found: list[Row] = self.document["cold"]
        servers = dict.fromkeys(one["server"] for one in found)
        return {server: middle([one[name] for one in found if one["server"] == server]) for server in servers}

    def held(self, server: str, workers: int) -> float:
        """Megabytes with the large model."""
        found: list[Row] = self.document["memory"]
        return middle([one["megabytes"] for one in found if (one["server"], one["workers"]) == (server, workers)])

    def middle(self, workload: str, server: str, connections: int, figure: Callable[[Row], float]) -> float:
        return middle([figure(cell) for cell in self.cells(workload, server, connections)])


def middle(values: Sequence[float]) -> float:
    return median(values) if values else MISSING

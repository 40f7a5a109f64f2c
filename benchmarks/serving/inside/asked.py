"""What the environment asks of a server's program; one meaning of the variables for all of them."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asked:
    """The workload, its folder, processes, rows of a batch (0: none), seconds that a batch waits, and the port."""

    workload: str
    folder: Path
    workers: int
    rows: int
    window: float
    port: int

    @property
    def streams(self) -> bool:
        return self.workload == "stream"

    @property
    def waits(self) -> bool:
        """Whether the model waits for a device, so that a thread should be given to it."""
        return self.workload == "accelerator"


def read() -> Asked:
    return Asked(
        os.environ["BENCH_WORKLOAD"],
        Path(os.environ["BENCH_FOLDER"]),
        int(os.environ["BENCH_WORKERS"]),
        int(os.environ["BENCH_ROWS"]),
        float(os.environ["BENCH_WINDOW"]),
        int(os.environ["BENCH_PORT"]),
    )

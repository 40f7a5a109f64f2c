"""What the API's documents cannot say of an endpoint on this machine: its port, its seed, its containers' share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from local_sagemaker.engines.base import Limits
from local_sagemaker.files import write_whole

FILE = "local.json"


@dataclass(frozen=True)
class LocalOptions:
    """An endpoint's place on this machine.

    Attributes:
        port: of 127.0.0.1; 0 is any free one.
        seed: of the weighted choice; None cannot be foreseen.
        memory_bytes: of each container; None for all of this machine's.
        cpus: of each container; None for all of this machine's.
        gpus: of each container, as Docker writes it.
    """

    port: int = 0
    seed: int | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    gpus: str | None = None

    @property
    def limits(self) -> Limits:
        """What each container may use."""
        return Limits(memory_bytes=self.memory_bytes, cpus=self.cpus, gpus=self.gpus)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Those of an endpoint's directory, or the defaults."""
        try:
            return cls(**json.loads((directory / FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()

    def write(self, directory: Path) -> None:
        """Keep them in an endpoint's directory."""
        write_whole(directory / FILE, json.dumps(asdict(self)))

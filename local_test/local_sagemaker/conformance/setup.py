"""What the platform gives a container and what it denies it, described before any is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from local_sagemaker.engines.base import BASE_DIR, SERVING_PORT, SHM_BYTES

WRITABLE = tuple(f"{BASE_DIR}/{part}" for part in ("input", "model", "output", "checkpoints"))
Network = Literal["bridge", "none", "isolated"]


@dataclass(frozen=True)
class Setup:
    """One container, described: what the platform gives it, and what it is denied.

    Attributes:
        command: what stands behind the image's name.
        environment: variables.
        files: contents by path, put into the writable folders before the start.
        folders: of this machine, mounted read-only, by path in the container.
        copies: folders of this machine whose copy the container may write to, by path.
        writable: folders of the container's own.
        made: empty folders in these.
        read_only: empty folders that it cannot write to.
        network: ``isolated`` reaches nothing, but is reached from here.
        hostname: its own name.
        peers: a network of hosts that find each other by name; wins over ``network``.
        read_only_root: whether only ``writable`` and /tmp can be written.
        shm_bytes: the size of /dev/shm.
        memory_bytes: None for all.
        cores: which of the machine's, as ``0-1``; None for all.
        gpus: ``all``, a number, or ``device=0,1`` as Docker writes it; None for none of them.
        port: where its server is to listen.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    copies: Mapping[str, Path] = field(default_factory=dict)
    writable: tuple[str, ...] = WRITABLE
    made: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    network: Network = "bridge"
    hostname: str = "algo-1"
    peers: str | None = None
    read_only_root: bool = False
    shm_bytes: int = SHM_BYTES
    memory_bytes: int | None = None
    cores: str | None = None
    gpus: str | None = None
    port: int = SERVING_PORT

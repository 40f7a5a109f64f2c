"""What a container is, whichever way it runs: a plan, an engine that starts it, and the running thing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

SHM_BYTES = 64 * 1024 * 1024
BASE_DIR = "/opt/ml"
SERVING_PORT = 8080

Command = Literal["train", "serve"]


@dataclass(frozen=True)
class Mount:
    """A folder of this machine that the container sees at ``target``, a path below /opt/ml."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Limits:
    """What a container may use.

    Attributes:
        shm_bytes: the size of /dev/shm; the default is what the platform gives, and cannot be told there.
        memory_bytes: None for all of the machine's; there is no swap beyond it.
        cpus: in cores, fractions too; None for all.
    """

    shm_bytes: int = SHM_BYTES
    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class NetworkPlan:
    """A network of a job's own, on which its hosts find each other by name.

    Attributes:
        name: unique on this machine.
        hosts: the names that get an address on it.
        isolated: whether nothing but the job's hosts can be reached.
        labels: what to find the network by.
    """

    name: str
    hosts: tuple[str, ...]
    isolated: bool
    labels: Mapping[str, str] = field(default_factory=dict)


class Chunk(NamedTuple):
    """Some bytes that a container wrote, on its standard output or its standard error."""

    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True)
class ContainerPlan:
    """One container, completely described and not yet started.

    Attributes:
        name: unique on this machine.
        command: the single argument that the platform starts an image with.
        image: the image's tag; the process engine ignores it.
        base_directory: the folder that stands for /opt/ml where there is no container.
        environment: variables, the platform's and the user's.
        mounts: folders of this machine inside of the container.
        hostname: the container's own name on its network.
        network: ``bridge``, ``none``, or the name of a network of the job's own, where others find ``hostname``.
        port: the port of 127.0.0.1 to publish, 0 for any free one, None for none.
        labels: what to find the container by.
        limits: what it may use.
        addresses: of every host of the network, itself included, by name.
    """

    name: str
    command: Command
    image: str
    base_directory: Path
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...] = ()
    hostname: str = "algo-1"
    network: str = "bridge"
    port: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_peers(self) -> bool:
        """Whether the container is on a network of the job's own."""
        return self.network not in {"bridge", "none"}


class Running(Protocol):
    """A container that was started."""

    @property
    def port(self) -> int | None:
        """The published port of 127.0.0.1, if any."""

    def logs(self) -> Iterator[Chunk]:
        """Yield standard output and standard error as written, until the container ends. To be called once."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code (128 + n for signal n).

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """

    def stop(self, grace_seconds: float) -> int:
        """Send SIGTERM, after the grace SIGKILL; return the exit code. Fine if it has ended already."""

    def remove(self) -> None:
        """Leave nothing of it on this machine: kill it if it runs and delete it. Fine to call twice."""


class Engine(Protocol):
    """A way of running containers."""

    @property
    def name(self) -> str:
        """As written after ``--engine``."""

    @property
    def network_interface(self) -> str:
        """The name of the network interface that a container finds."""

    @property
    def leaves_out(self) -> tuple[str, ...]:
        """What of the platform this engine does not show, in sentences for the user."""

    def describe(self, plan: ContainerPlan) -> str:
        """The shell command that ``start`` amounts to."""

    def describe_network(self, plan: NetworkPlan) -> str:
        """The shell command that ``network`` begins with.

        Raises:
            UsageError: if the engine has no networks.
        """

    def network(self, plan: NetworkPlan) -> AbstractContextManager[Mapping[str, str]]:
        """Make a network for the length of a block, and remove it at its end, whichever way the block ends.

        The block gets the address of each host. A host has its name and address as long as the network exists, as an
        instance has, and not only while its container runs.

        Raises:
            UsageError: if the engine has no networks, or cannot make another one.
        """

    def start(self, plan: ContainerPlan) -> Running:
        """Start the container.

        Raises:
            EngineMissingError: if the engine, the image or the runtime is absent.
            UsageError: if the port is taken.
        """

    def give_back(self, directory: Path, image: str) -> None:
        """Make files that the container wrote below ``directory`` belong to the invoking user."""

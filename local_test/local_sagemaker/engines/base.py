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

Command = Literal["train", "serve", "process"]
SHARED_NETWORK = "container:"


@dataclass(frozen=True)
class Mount:
    """A folder of this machine that the container sees at ``target``.

    Attributes:
        source: the folder.
        target: an absolute path of the container.
        read_only: whether the container may not write there.
        changes: a folder of this machine that takes what the container writes there, while ``source`` stays as it is;
            None where the container writes to ``source`` itself.
    """

    source: Path
    target: str
    read_only: bool = False
    changes: Path | None = None


@dataclass(frozen=True)
class Limits:
    """What a container may use.

    Attributes:
        shm_bytes: the size of /dev/shm; the default is what the platform gives, and cannot be told there.
        memory_bytes: None for all of the machine's; there is no swap beyond it.
        cpus: in cores, fractions too; None for all.
        gpus: ``all``, a number, or ``device=0,1`` as Docker writes it; None for none of them.
    """

    shm_bytes: int = SHM_BYTES
    memory_bytes: int | None = None
    cpus: float | None = None
    gpus: str | None = None


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
        command: the single argument that the platform starts an image with; a processing job's image gets none.
        image: the image's tag; the process engine ignores it.
        base_directory: the folder that stands for /opt/ml where there is no container.
        environment: variables, the platform's and the user's.
        mounts: folders of this machine inside of the container.
        hostname: the container's own name on its network.
        network: ``bridge``, ``none``, the name of a network of the job's own, where others find ``hostname``, or
            ``container:NAME`` to share that container's network.
        port: the port of 127.0.0.1 that leads to ``container_port``, 0 for any free one, None for none.
        labels: what to find the container by.
        limits: what it may use.
        addresses: of every host of the network, itself included, by name.
        entrypoint: replaces the image's ENTRYPOINT and its CMD; ``command`` is then not added.
        arguments: replace the image's CMD and ``command``; None for ``command``.
        container_port: where the container listens.
        publish: further ports of the container, each on a free port of 127.0.0.1.
        read_only_root: whether the container may write to its mounts alone.
        tmpfs: folders of the container that lie in memory.
        user: whom the container runs as, ``UID`` or ``UID:GID``; None for the image's own.
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
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    container_port: int = SERVING_PORT
    publish: tuple[int, ...] = ()
    read_only_root: bool = False
    tmpfs: tuple[str, ...] = ()
    user: str | None = None

    @property
    def has_peers(self) -> bool:
        """Whether the container is on a network of the job's own."""
        return self.network not in {"bridge", "none"} and not self.shares_network

    @property
    def shares_network(self) -> bool:
        """Whether the container has no network of its own, but another container's."""
        return self.network.startswith(SHARED_NETWORK)

    @property
    def words(self) -> tuple[str, ...]:
        """What stands behind the image in ``docker run``, where ``--entrypoint`` takes one word only.

        Source: SageMaker developer guide, "How SageMaker AI Runs Your Training Image" and "Build Your Own Processing
        Container".
        """
        if self.entrypoint:
            return (*self.entrypoint[1:], *(self.arguments or ()))
        if self.arguments is not None:
            return self.arguments
        return () if self.command == "process" else (self.command,)


@dataclass(frozen=True)
class FoundContainer:
    """A container that an engine has, whoever started it.

    Attributes:
        name: as in its plan.
        labels: all of them.
        running: whether its first process lives.
        exit_code: how it ended; None while it runs, and where nobody can tell.
        port: the port of 127.0.0.1 that leads to it, if any.
    """

    name: str
    labels: Mapping[str, str]
    running: bool
    exit_code: int | None
    port: int | None


class Running(Protocol):
    """A container that was started."""

    @property
    def name(self) -> str:
        """The plan's."""

    @property
    def port(self) -> int | None:
        """The published port of 127.0.0.1, if any."""

    @property
    def address(self) -> tuple[str, int] | None:
        """The host and port by which this machine reaches it soonest; None if it cannot be reached.

        That is the container's own address where this machine is on its network, because a published port costs a
        process in between; else the published port.
        """

    def logs(self) -> Iterator[Chunk]:
        """Yield standard output and standard error as written, until the container ends. To be called once."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code (128 + n for signal n).

        Raises:
            TimeoutError: after ``timeout`` seconds.
        """

    def stop(self, grace_seconds: float) -> int:
        """Send SIGTERM, after the grace SIGKILL; return the exit code. Fine if it has ended already."""

    def kill(self, number: int) -> None:
        """Send the signal ``number`` to its first process. Fine if it has ended already."""

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

    def has_image(self, reference: str) -> bool:
        """Whether a container can be started from this image without asking a registry."""

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

    def find(self, labels: Mapping[str, str | None]) -> list[FoundContainer]:
        """The containers that carry all of these labels, ended ones too; None stands for any value."""

    def labels_of_all(self, labels: Mapping[str, str | None]) -> list[dict[str, str]]:
        """The labels of every container and every network that carries all of these; None stands for any value."""

    def remove_all(self, labels: Mapping[str, str | None]) -> int:
        """Remove every container, and then every network, that carries all of these labels.

        Returns:
            How many there were.

        Raises:
            ValueError: if there are no labels.
        """

    def give_back(self, directory: Path, image: str, labels: Mapping[str, str] = ...) -> None:
        """Make files that the container wrote below ``directory`` belong to the invoking user.

        Raises:
            UsageError: if that is not possible; says what to do.
        """

"""The containers that probes look at, by Docker's SDK: started in a described setup, asked, signalled, and removed.

Nothing that a container writes lands on this machine: what the platform mounts writable are anonymous volumes, filled
before the start and read after the end through the engine. So nothing is left behind, whoever owns the files.
"""

from __future__ import annotations

import io
import platform
import sys
import tarfile
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

import docker
import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.engines.base import BASE_DIR, SERVING_PORT, SHM_BYTES
from local_sagemaker.errors import EngineMissingError

LABEL = "sagemaker-byoc.check"
POLL_SECONDS = 0.1
LAST_LINES = 10
WRITABLE = tuple(f"{BASE_DIR}/{part}" for part in ("input", "model", "output", "checkpoints"))
# One line a process: its number, its parent's, and its name.
LIST_PROCESSES = r"""
for status in /proc/[0-9]*/status; do
  while read -r key value _; do
    case $key in Name:) name=$value;; Pid:) pid=$value;; PPid:) parent=$value;; esac
  done < "$status" && echo "$pid $parent $name"
done 2>/dev/null
"""
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
        read_only: empty folders that it cannot write to.
        network: ``isolated`` reaches nothing, but is reached from here.
        hostname: its own name.
        peers: a network of hosts that find each other by name; wins over ``network``.
        read_only_root: whether only ``writable`` and /tmp can be written.
        shm_bytes: the size of /dev/shm.
        memory_bytes: None for all.
        port: where its server is to listen.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    copies: Mapping[str, Path] = field(default_factory=dict)
    writable: tuple[str, ...] = WRITABLE
    read_only: tuple[str, ...] = ()
    network: Network = "bridge"
    hostname: str = "algo-1"
    peers: str | None = None
    read_only_root: bool = False
    shm_bytes: int = SHM_BYTES
    memory_bytes: int | None = None
    port: int = SERVING_PORT


@dataclass(frozen=True)
class Process:
    """A process inside of a container."""

    pid: int
    parent: int
    name: str


class RefusedError(Exception):
    """Docker did not start the container; the text says why."""


class Containers:
    """Starts containers of one image, all with one label; as a context manager it leaves none behind."""

    def __init__(self, client: Any, image: str) -> None:
        self._client = client
        self.image = image
        self.session = uuid.uuid4().hex[:12]
        self._networks: dict[str, Any] = {}
        self._nothing = tempfile.TemporaryDirectory(prefix="byoc-check-empty-")
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def connect(cls, image: str) -> Self:
        """Connect to the engine of the environment.

        Raises:
            EngineMissingError: if none answers.
        """
        try:
            client = docker.from_env(timeout=120, max_pool_size=32)
            client.ping()
        except (docker.errors.DockerException, RequestException) as error:
            raise EngineMissingError(
                f"no Docker engine answers: {error}", "an image is checked in containers", "start Docker"
            ) from error
        return cls(client, image)

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """See ``close``."""
        self.close()

    def close(self) -> None:
        """Remove every container and network of ours; nothing can be started any more. Fine to call twice."""
        with self._lock:
            self._closed = True
            self._nothing.cleanup()
        found = {"label": f"{LABEL}={self.session}"}
        with suppress(docker.errors.DockerException, RequestException):
            for container in self._client.containers.list(all=True, filters=found, ignore_removed=True):
                _remove(container)
            for network in self._client.networks.list(filters=found):
                with suppress(docker.errors.APIError):
                    network.remove()

    def inspect(self) -> dict[str, Any]:
        """What the engine knows of the image.

        Raises:
            EngineMissingError: if it is absent.
        """
        try:
            attributes: dict[str, Any] = self._client.images.get(self.image).attrs
        except docker.errors.ImageNotFound as error:
            raise EngineMissingError(
                f"there is no image {self.image}",
                "an image that this machine has is checked",
                f"build it, or pull it: `docker pull {self.image}`",
            ) from error
        return attributes

    @property
    def are_reached_directly(self) -> bool:
        """Whether a container's own address is reached from here: not from another machine or another name space."""
        if not sys.platform.startswith("linux") or "microsoft" in platform.release().lower():
            return False
        local = str(self._client.api.base_url).startswith("http+docker")
        return local and not any("rootless" in option for option in self._client.info().get("SecurityOptions") or ())

    def network(self, name: str) -> str:
        """A network without a way out, made when it is first asked for; its name for Docker."""
        with self._lock:
            if name not in self._networks:
                self._networks[name] = self._client.networks.create(
                    f"byoc-check-{self.session}-{name}",
                    driver="bridge",
                    internal=True,
                    labels={LABEL: self.session},
                )
        return str(self._networks[name].name)

    @contextmanager
    def started(self, setup: Setup) -> Iterator[Container]:
        """Start a container for the length of a block.

        Raises:
            RefusedError: if Docker does not start it, as for want of an executable, or loses it.
        """
        container = self._create(setup)
        try:
            self._fill(container, setup)
            container.start()
            yield Container(container, setup)
        except docker.errors.APIError as error:
            raise RefusedError(str(error.explanation or error)) from error
        except RequestException as error:
            raise RefusedError(f"Docker does not answer: {error}") from error
        finally:
            _remove(container)

    @contextmanager
    def unstarted(self) -> Iterator[Container]:
        """A container that is only looked into."""
        setup = Setup(("train",), writable=(), network="none")
        container = self._create(setup)
        try:
            yield Container(container, setup)
        finally:
            _remove(container)

    def _create(self, setup: Setup) -> Any:
        with self._lock:
            if self._closed:
                raise RefusedError("the check has ended")
        try:
            return self._client.containers.create(self.image, list(setup.command), **self._options(setup))
        except docker.errors.APIError as error:
            raise RefusedError(str(error.explanation or error)) from error

    def _options(self, setup: Setup) -> dict[str, Any]:
        shown = {**setup.folders, **dict.fromkeys(setup.read_only, Path(self._nothing.name))}
        mounts = [docker.types.Mount(target, None, type="volume", no_copy=True) for target in setup.writable]
        mounts += [
            docker.types.Mount(target, str(folder), type="bind", read_only=True) for target, folder in shown.items()
        ]
        options: dict[str, Any] = {
            "name": f"byoc-check-{self.session}-{uuid.uuid4().hex[:8]}",
            "hostname": setup.hostname,
            "environment": dict(setup.environment),
            "labels": {LABEL: self.session},
            "mounts": mounts,
            "shm_size": setup.shm_bytes,
            "read_only": setup.read_only_root,
            "tmpfs": {"/tmp": "exec"} if setup.read_only_root else {},  # noqa: S108 - the container's
        }
        if setup.memory_bytes is not None:
            options["mem_limit"] = options["memswap_limit"] = setup.memory_bytes
        return options | self._network_options(setup)

    def _network_options(self, setup: Setup) -> dict[str, Any]:
        if setup.peers is not None:
            network = self.network(setup.peers)
            endpoint = self._client.api.create_endpoint_config(aliases=[setup.hostname])
            return {"network": network, "networking_config": {network: endpoint}}
        if setup.network == "none":
            return {"network_mode": "none", "extra_hosts": {setup.hostname: "127.0.0.1"}}
        if not self.are_reached_directly:  # a network without a way out has no published ports either
            return {"network_mode": "bridge", "ports": {f"{setup.port}/tcp": ("127.0.0.1", None)}}
        return {"network": self.network("isolated")} if setup.network == "isolated" else {"network_mode": "bridge"}

    def _fill(self, container: Any, setup: Setup) -> None:
        """Put files and copies into the container's volumes, each by the volume's own path."""
        for volume in setup.writable:
            files = {path: data for path, data in setup.files.items() if path.startswith(f"{volume}/")}
            copies = {path: folder for path, folder in setup.copies.items() if f"{path}/".startswith(f"{volume}/")}
            if files or copies:
                container.put_archive(volume, _archive(volume, files, copies))


class Container:
    """A container of ours."""

    def __init__(self, container: Any, setup: Setup) -> None:
        self._container = container
        self.setup = setup

    @property
    def state(self) -> dict[str, Any]:
        """The engine's State of it."""
        self._container.reload()
        state: dict[str, Any] = self._container.attrs["State"]
        return state

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return str(self.state["Status"]) in {"exited", "dead"}

    @property
    def exit_code(self) -> int:
        """Of a container that has ended."""
        return int(self.state["ExitCode"])

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that its server is reached at from here."""
        self._container.reload()
        settings = self._container.attrs["NetworkSettings"]
        published = (settings.get("Ports") or {}).get(f"{self.setup.port}/tcp")
        if published:
            return "127.0.0.1", int(published[0]["HostPort"])
        found = next((one["IPAddress"] for one in settings["Networks"].values() if one["IPAddress"]), "")
        return str(found), self.setup.port

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end; False if it still runs."""
        limit = time.monotonic() + seconds
        while not self.has_ended:
            if time.monotonic() >= limit:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def seconds(self) -> float:
        """How long it ran."""
        state = self.state
        return _time(state["FinishedAt"]) - _time(state["StartedAt"])

    def log(self) -> str:
        """All that it has written so far."""
        return bytes(self._container.logs()).decode(errors="replace")

    def last_lines(self) -> str:
        """The end of its log, for evidence."""
        lines = self.log().splitlines()[-LAST_LINES:]
        return "\n".join(f"log: {line[:300]}" for line in lines) or "log: (empty)"

    def line_times(self) -> list[float]:
        """When each line arrived, in seconds before the end of a container that has ended."""
        end = _time(self.state["FinishedAt"])
        stamped = bytes(self._container.logs(timestamps=True)).decode(errors="replace").splitlines()
        return [end - _time(line.split(" ", 1)[0]) for line in stamped if line[:2].isdigit()]

    def signal(self, name: str) -> None:
        """Send a signal to process 1; fine if it has ended."""
        with suppress(docker.errors.APIError):
            self._container.kill(signal=name)

    def execute(self, *command: str) -> str | None:
        """Run a command inside; its standard output, or None where it cannot be run."""
        with suppress(docker.errors.APIError):
            code, output = self._container.exec_run(list(command), user="0", demux=True)
            if code == 0:
                return bytes(output[0] or b"").decode(errors="replace")
        return None

    def processes(self) -> list[Process]:
        """The processes inside, but those of the asking shell; empty where there is no shell."""
        lines = [line.split(" ", 2) for line in (self.execute("sh", "-c", LIST_PROCESSES) or "").splitlines()]
        found = [Process(int(pid), int(parent), name) for pid, parent, name in lines]
        ours = {one.pid for one in found if one.parent == 0 and one.pid != 1}
        return [one for one in found if one.pid not in ours and one.parent not in ours]

    def kill(self, process: Process) -> bool:
        """Kill one process inside; whether that could be done."""
        return self.execute("sh", "-c", f"kill -9 {process.pid}") is not None

    def listeners(self) -> set[tuple[str, int]]:
        """Where TCP servers inside listen: ``all`` or ``loopback`` or ``one`` of its addresses, and the port."""
        found: set[tuple[str, int]] = set()
        for table in ("tcp", "tcp6"):
            text = self.execute("cat", f"/proc/net/{table}") or self._of_this_machine(f"net/{table}") or ""
            found |= {_listener(line) for line in text.splitlines()[1:] if line.split()[3:4] == ["0A"]}
        return {one for one in found if one != ("nameserver", 0)}

    @contextmanager
    def archive(self, path: str) -> Iterator[tarfile.TarFile | None]:
        """A file or folder of it, as an archive; None if there is none."""
        with tempfile.TemporaryFile() as file:
            try:
                pieces, _ = self._container.get_archive(path)
            except docker.errors.NotFound:
                yield None
                return
            file.writelines(pieces)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                yield tar

    def text(self, path: str) -> str | None:
        """The text of a file; None if there is none."""
        with self.archive(path) as tar:
            member = None if tar is None else next((one for one in tar if one.isfile()), None)
            file = None if tar is None or member is None else tar.extractfile(member)
            return None if file is None else file.read().decode(errors="replace")

    def names(self, path: str) -> list[str]:
        """The files below a folder, by their paths in it."""
        with self.archive(path) as tar:
            return [] if tar is None else [one.name.partition("/")[2] for one in tar if not one.isdir()]

    def mode(self, path: str) -> int | None:
        """The permissions of a file, its links followed; None if there is none."""
        for _ in range(10):
            try:
                pieces, stat = self._container.get_archive(path)
            except docker.errors.NotFound:
                return None
            pieces.close()
            if not stat.get("linkTarget"):
                return int(stat["mode"])
            path = str(stat["linkTarget"])
        return None

    def _of_this_machine(self, name: str) -> str | None:
        with suppress(OSError):
            return Path("/proc", str(self.state["Pid"]), name).read_text(encoding="utf-8")
        return None


def main_processes(processes: Sequence[Process]) -> list[Process]:
    """The children of process 1, one of each name, those with the most descendants first."""
    children = [one for one in processes if one.parent == 1]
    weight = {one.pid: sum(other.parent == one.pid for other in processes) for one in children}
    by_name: dict[str, Process] = {}
    for child in sorted(children, key=lambda one: -weight[one.pid]):
        by_name.setdefault(child.name, child)
    return list(by_name.values())


def _listener(line: str) -> tuple[str, int]:
    where, _, port = line.split()[1].partition(":")
    number = int(port, 16)
    if where == "0B00007F":  # Docker's own name server, 127.0.0.11
        return "nameserver", 0
    if not where.strip("0"):
        return "all", number
    loopback = where.endswith("7F") if len(where) == 8 else where.endswith(("01000000", "7F"))
    return ("loopback" if loopback else "one"), number


def _archive(root: str, files: Mapping[str, bytes], copies: Mapping[str, Path]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path.removeprefix(f"{root}/"))
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
        for path, folder in copies.items():
            tar.add(folder, path.removeprefix(root).strip("/") or ".")
    return written.getvalue()


def _remove(container: Any) -> None:
    with suppress(docker.errors.APIError, RequestException):
        container.remove(force=True, v=True)


def _time(text: str) -> float:
    """Docker's times have nanoseconds, more than Python reads."""
    whole, _, rest = text.partition(".")
    digits = rest.rstrip("Z").split("+")[0][:6] or "0"
    return datetime.fromisoformat(f"{whole.rstrip('Z')}.{digits:0<6}+00:00").timestamp()

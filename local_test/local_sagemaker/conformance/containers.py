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
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

import docker
import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.conformance.container import Container
from local_sagemaker.conformance.leftovers import LABEL, remove_abandoned, runner_labels
from local_sagemaker.conformance.setup import Network, Setup
from local_sagemaker.engines.docker import ANSWER_SECONDS
from local_sagemaker.engines.gpus import parse_gpus
from local_sagemaker.errors import EngineMissingError

ISOLATED: Network = "isolated"


class RefusedError(Exception):
    """Docker did not start the container; the text says why."""


class Containers:
    """Starts containers of one image, all with one label; as a context manager it leaves none behind."""

    def __init__(self, client: Any, image: str) -> None:
        self._client = client
        self._labels = runner_labels()
        self.image = image
        self.session = uuid.uuid4().hex[:12]
        self._networks: dict[str, Any] = {}
        self._nothing = tempfile.TemporaryDirectory(prefix="byoc-check-empty-")
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def connect(cls, image: str) -> Self:
        """Connect to the engine of the environment, and remove what a check that was killed has left there.

        Raises:
            EngineMissingError: if none answers.
        """
        try:
            client = docker.from_env(timeout=ANSWER_SECONDS, max_pool_size=32)
            client.ping()
            remove_abandoned(client)
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

    def halves(self) -> tuple[str | None, str | None]:
        """The machine's cores, shared between two containers that would otherwise wait for each other's threads."""
        count = int(self._client.info().get("NCPU") or 1)
        if count < 2:
            return None, None
        return f"0-{count // 2 - 1}", f"{count // 2}-{count - 1}"

    def network(self, name: str) -> str:
        """A network, made when it is first asked for; its name for Docker. ``ISOLATED`` has no way out.

        Raises:
            EngineMissingError: if Docker has no room for one.
        """
        with self._lock:
            if name not in self._networks:
                self._networks[name] = self._make_network(name)
        return str(self._networks[name].name)

    def _make_network(self, name: str) -> Any:
        try:
            return self._client.networks.create(
                f"byoc-check-{self.session}-{name}",
                driver="bridge",
                internal=name == ISOLATED,
                labels={LABEL: self.session, **self._labels},
            )
        except docker.errors.APIError as error:
            raise EngineMissingError(
                f"Docker refuses to make a network: {error.explanation or error}",
                "containers that are two hosts, or are isolated, have a network of their own",
                "remove networks that nobody uses: `docker network prune`, and try again",
            ) from error

    @contextmanager
    def started(self, setup: Setup) -> Iterator[Container]:
        """Start a container for the length of a block.

        Raises:
            RefusedError: if Docker does not start it, as for want of an executable, or loses it.
            EngineMissingError: if it is to have GPUs, and there are none; or there is no room for its network.
        """
        container = self._create(setup)
        try:
            self._fill(container, setup)
            container.start()
            yield Container(container, setup)
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
            if setup.gpus is not None and ("device driver" in reason or "nvidia" in reason.lower()):
                raise EngineMissingError(
                    f"--gpus {setup.gpus}: Docker has no GPU to give: {reason}",
                    "an image that needs GPUs is checked on a machine that has some",
                    "install the NVIDIA container toolkit, or leave out --gpus",
                ) from error
            raise RefusedError(reason) from error
        except RequestException as error:
            raise RefusedError(f"Docker does not answer: {error}") from error
        finally:
            _remove(container)

    @contextmanager
    def unstarted(self) -> Iterator[Container]:
        """A container that is only looked into.

        Raises:
            EngineMissingError: if Docker makes none of the image.
        """
        setup = Setup(("train",), writable=(), network="none")
        try:
            container = self._create(setup)
        except RefusedError as error:
            raise EngineMissingError(
                f"Docker makes no container of {self.image}: {error}",
                "an image is checked in containers",
                "see whether `docker create` makes one",
            ) from error
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
        except RequestException as error:
            raise RefusedError(f"Docker does not answer: {error}") from error

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
            "labels": {LABEL: self.session, **self._labels},
            "mounts": mounts,
            "shm_size": setup.shm_bytes,
            "read_only": setup.read_only_root,
            "tmpfs": {"/tmp": "exec"} if setup.read_only_root else {},  # noqa: S108 - the container's
        }
        if setup.memory_bytes is not None:
            options["mem_limit"] = options["memswap_limit"] = setup.memory_bytes
        if setup.cores is not None:
            options["cpuset_cpus"] = setup.cores
        if setup.gpus is not None:
            options["device_requests"] = [_gpu_request(setup.gpus)]
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
        return {"network": self.network(ISOLATED)} if setup.network == ISOLATED else {"network_mode": "bridge"}

    def _fill(self, container: Any, setup: Setup) -> None:
        """Put files and copies into the container's volumes, each by the volume's own path."""
        for volume in setup.writable:
            files = {path: data for path, data in setup.files.items() if path.startswith(f"{volume}/")}
            copies = {path: folder for path, folder in setup.copies.items() if f"{path}/".startswith(f"{volume}/")}
            made = [path for path in setup.made if path.startswith(f"{volume}/")]
            if files or copies or made:
                with tempfile.TemporaryFile() as archive:  # a model may be larger than memory
                    _write_archive(archive, volume, files, copies, made)
                    archive.seek(0)
                    container.put_archive(volume, archive)


def _gpu_request(text: str) -> docker.types.DeviceRequest:
    wanted = parse_gpus(text)
    if isinstance(wanted, int):
        return docker.types.DeviceRequest(count=wanted, capabilities=[["gpu"]])
    return docker.types.DeviceRequest(device_ids=list(wanted), capabilities=[["gpu"]])


def _write_archive(
    stream: BinaryIO, root: str, files: Mapping[str, bytes], copies: Mapping[str, Path], made: Iterable[str]
) -> None:
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in made:
            member = tarfile.TarInfo(path.removeprefix(f"{root}/"))
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, data in files.items():
            member = tarfile.TarInfo(path.removeprefix(f"{root}/"))
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
        for path, folder in copies.items():
            tar.add(folder, path.removeprefix(root).strip("/") or ".")


def _remove(container: Any) -> None:
    with suppress(docker.errors.APIError, RequestException):
        container.remove(force=True, v=True)

"""Containers of the Docker engine, through its SDK."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.engines.base import (
    SERVING_PORT,
    SHARED_NETWORK,
    Chunk,
    ContainerPlan,
    Engine,
    FoundContainer,
    NetworkPlan,
)
from local_sagemaker.engines.docker_command import LOOPBACK, network_command, run_command
from local_sagemaker.engines.gpus import parse_gpus
from local_sagemaker.engines.image_lookup import find_image
from local_sagemaker.engines.overlay import overlay_options
from local_sagemaker.errors import EngineMissingError, LocalSageMakerError, UsageError

# Each container holds a connection for its log and one for its end; a job has 20 hosts at most.
MAX_CONNECTIONS = 64
# Within a job's network; below it is the gateway.
FIRST_ADDRESS = 10
REMOVAL_SECONDS = 30
# An engine that is started again is back by then.
ENGINE_SECONDS = 30.0
ENGINE_PAUSE_SECONDS = 0.5


def answers() -> bool:
    """Whether a Docker engine answers on this machine."""
    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except (docker.errors.DockerException, RequestException):
        return False
    finally:
        client.close()


def labels_of_image(engine: Engine, image: str) -> dict[str, str] | None:
    """An image's labels; None if there is no such image, as starting it will say in words."""
    if not isinstance(engine, DockerEngine):
        return None
    try:
        return dict(engine.client.images.get(find_image(image, engine.has_image)).labels)
    except (docker.errors.DockerException, EngineMissingError):
        return None


@dataclass(frozen=True)
class DockerEngine:
    """Runs plans as containers."""

    client: Any
    name: str = "docker"
    network_interface: str = "eth0"
    leaves_out: tuple[str, ...] = ()

    @classmethod
    def connect(cls) -> DockerEngine:
        """Connect to the engine of the environment (DOCKER_HOST) or the local one.

        Raises:
            EngineMissingError: if none answers.
        """
        try:
            client = docker.from_env(timeout=60, max_pool_size=MAX_CONNECTIONS)
            client.ping()
        except (docker.errors.DockerException, RequestException) as error:
            raise EngineMissingError(
                f"no Docker engine answers: {error}",
                "the docker engine needs a running Docker",
                "start Docker, or run without containers: --engine process",
            ) from error
        return cls(client)

    def describe(self, plan: ContainerPlan) -> str:
        """The ``docker run`` command that ``start`` amounts to; before the network is made, without addresses."""
        return run_command(plan)

    def describe_network(self, plan: NetworkPlan) -> str:
        """The ``docker network create`` command that ``network`` amounts to."""
        return network_command(plan)

    @contextmanager
    def network(self, plan: NetworkPlan) -> Iterator[Mapping[str, str]]:
        """Make a bridge network, internal where it is isolated, and remove it at the end of the block.

        Raises:
            UsageError: if Docker refuses.
        """
        try:
            # Addresses can be given on a network with a subnet of one's own only, so Docker is asked for a free one.
            subnet = ip_network(self._make_network(plan))
            self._remove_network(plan)
            self._make_network(plan, str(subnet))
            yield {host: str(subnet[FIRST_ADDRESS + place]) for place, host in enumerate(plan.hosts)}
        finally:
            self._remove_network(plan)

    def _make_network(self, plan: NetworkPlan, subnet: str | None = None) -> str:
        pools = [] if subnet is None else [docker.types.IPAMPool(subnet=subnet)]
        try:
            network = self.client.networks.create(
                plan.name,
                driver="bridge",
                internal=plan.isolated,
                labels=dict(plan.labels),
                check_duplicate=True,
                ipam=docker.types.IPAMConfig(pool_configs=pools),
            )
        except docker.errors.APIError as error:
            raise UsageError(
                f"Docker refuses to make the network {plan.name}: {error.explanation or error}",
                "the hosts of a job have a network of their own",
                "remove networks that nobody uses: `docker network prune`, and try again",
            ) from error
        network.reload()
        return str(network.attrs["IPAM"]["Config"][0]["Subnet"])

    def _remove_network(self, plan: NetworkPlan) -> None:
        # By its labels, so that a network whose making was interrupted is found as well.
        labels = [f"{key}={value}" for key, value in plan.labels.items()]
        for network in self.client.networks.list(names=[plan.name], filters={"label": labels}):
            with suppress(docker.errors.NotFound):
                network.remove()

    def has_image(self, reference: str) -> bool:
        """Whether this engine has the image; see ``Engine.has_image``."""
        try:
            self.client.images.get(reference)
        except docker.errors.NotFound:
            return False
        except docker.errors.APIError:  # no reference at all
            return False
        return True

    def start(self, plan: ContainerPlan) -> DockerContainer:
        """Create the container, attach to its output, then start it, so that no byte of the log is missed.

        Raises:
            EngineMissingError: if the image is absent, or there is no GPU and the plan wants one.
            UsageError: if the port is taken, or Docker refuses the plan.
        """
        container = self._create(plan)
        try:
            chunks = container.attach(stdout=True, stderr=True, stream=True, logs=False, demux=True)
            container.start()
            container.reload()
        except docker.errors.APIError as error:
            _remove(container)
            raise _refused(plan, error) from error
        except BaseException:
            _remove(container)
            raise
        return DockerContainer(container, chunks, plan.container_port, self._network_settings(container))

    def _create(self, plan: ContainerPlan) -> Any:
        try:
            return self.client.containers.create(plan.image, list(plan.words), **self._options(plan))
        except docker.errors.ImageNotFound as error:
            # Documents name images of ECR, which this machine has by their tags.
            found = find_image(plan.image, self.has_image)
            if found == plan.image:
                raise _refused(plan, error) from error
            return self._create(replace(plan, image=found))
        except docker.errors.APIError as error:
            raise _refused(plan, error) from error
        except KeyboardInterrupt:
            self._remove_if_made(plan)
            raise

    def adopt(self, name: str) -> DockerContainer:
        """Take over a container; its log is given from the beginning. See ``Engine.adopt``."""
        try:
            container = self.client.containers.get(name)
        except docker.errors.NotFound as error:
            raise UsageError(
                f"there is no container {name}", "expected one that this engine has", "see `byoc ps`"
            ) from error
        settings = self._network_settings(container)
        return DockerContainer(container, _log_from_the_beginning(container), _main_port(settings), settings)

    def find(self, labels: Mapping[str, str | None]) -> list[FoundContainer]:
        """The containers that carry the labels, ended ones too; see ``Engine.find``."""
        found = []
        for container in self._containers(labels):
            state, settings = container.attrs["State"], container.attrs["NetworkSettings"]
            ended = state["Status"] in {"exited", "dead"}
            code = int(state["ExitCode"]) if ended else None
            port = _published_port(settings, _main_port(settings))
            found.append(FoundContainer(container.name, container.labels, bool(state["Running"]), code, port))
        return found

    def labels_of_all(self, labels: Mapping[str, str | None]) -> list[dict[str, str]]:
        """Those of containers and networks; see ``Engine.labels_of_all``."""
        networks = self.client.networks.list(filters={"label": _filters(labels)})
        of_networks = (dict(network.attrs.get("Labels") or {}) for network in networks)
        return [*(dict(container.labels) for container in self._containers(labels)), *of_networks]

    def remove_all(self, labels: Mapping[str, str | None]) -> int:
        """Remove containers, then networks, that carry the labels; see ``Engine.remove_all``."""
        if not labels:
            raise ValueError("no labels")
        containers = self._containers(labels)
        for container in containers:
            _remove(container)
        networks = self.client.networks.list(filters={"label": _filters(labels)})
        for network in networks:
            with suppress(docker.errors.NotFound):
                network.remove()
        return len(containers) + len(networks)

    def _containers(self, labels: Mapping[str, str | None]) -> list[Any]:
        found = self.client.containers.list(all=True, ignore_removed=True, filters={"label": _filters(labels)})
        return list(found)

    def _network_settings(self, container: Any) -> dict[str, Any]:
        """Its own, or those of the container whose network it shares."""
        mode = container.attrs["HostConfig"]["NetworkMode"]
        if mode.startswith(SHARED_NETWORK):
            container = self.client.containers.get(mode.removeprefix(SHARED_NETWORK))
        return dict(container.attrs["NetworkSettings"])

    def _options(self, plan: ContainerPlan) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": plan.name,
            "hostname": None if plan.shares_network else plan.hostname,
            "entrypoint": list(plan.entrypoint[:1]) or None,
            "read_only": plan.read_only_root,
            "tmpfs": dict.fromkeys(plan.tmpfs, ""),
            "user": plan.user,
            "environment": dict(plan.environment),
            "labels": dict(plan.labels),
            "shm_size": plan.limits.shm_bytes,
            # A list, because two mounts may show the same folder.
            "volumes": [
                f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}"
                for mount in plan.mounts
                if mount.changes is None
            ],
            "mounts": [
                docker.types.Mount(
                    mount.target,
                    None,
                    driver_config=docker.types.DriverConfig("local", overlay_options(mount.source, mount.changes)),
                )
                for mount in plan.mounts
                if mount.changes is not None
            ],
        }
        if plan.has_peers:
            options["network"] = plan.network
            endpoint = self.client.api.create_endpoint_config(
                aliases=[plan.hostname], ipv4_address=plan.addresses.get(plan.hostname)
            )
            options["networking_config"] = {plan.network: endpoint}
            # Docker's own names end with a container, an instance's stay until the job's end.
            options["extra_hosts"] = {host: where for host, where in plan.addresses.items() if host != plan.hostname}
        else:
            options["network_mode"] = plan.network
        if plan.limits.memory_bytes is not None:
            # Without swap, as on an instance: a job that needs more is killed here too.
            options["mem_limit"] = options["memswap_limit"] = plan.limits.memory_bytes
        if plan.limits.cpus is not None:
            options["nano_cpus"] = int(plan.limits.cpus * 1e9)
        if plan.limits.gpus is not None:
            options["device_requests"] = [_gpu_request(plan.limits.gpus)]
        if plan.network == "none":
            # A host of a job always finds itself by name; without a network Docker does not see to that.
            options["extra_hosts"] = {plan.hostname: LOOPBACK}
        ports = {} if plan.port is None else {f"{plan.container_port}/tcp": (LOOPBACK, plan.port or None)}
        options["ports"] = {f"{port}/tcp": (LOOPBACK, None) for port in plan.publish} | ports
        return options

    def _remove_if_made(self, plan: ContainerPlan) -> None:
        with suppress(docker.errors.DockerException, RequestException):
            container = self.client.containers.get(plan.name)
            if plan.labels.items() <= container.labels.items():
                container.remove(force=True, v=True)

    def give_back(self, directory: Path, image: str, labels: Mapping[str, str] | None = None) -> None:
        """Change the owner of what root wrote in the container to the invoking user, where that is not root.

        Raises:
            UsageError: if Docker refuses, or the image cannot do it.
        """
        user = os.getuid()
        if user == 0 or not directory.exists() or not _has_files_of_others(directory, user):
            return
        # A rootless engine's root is the invoking user.
        owner = "0:0" if self._is_rootless() else f"{user}:{os.getgid()}"
        try:
            container = self.client.containers.create(
                find_image(image, self.has_image),
                ["-R", "-h", owner, "/byoc-job"],
                entrypoint=["chown"],
                volumes={str(directory): {"bind": "/byoc-job", "mode": "rw"}},
                network_mode="none",
                user="0:0",
                labels=dict(labels or {}),
            )
            try:
                container.start()
                code = container.wait()["StatusCode"]
            finally:
                _remove(container)
        except docker.errors.APIError as error:
            raise _not_given_back(directory, error.explanation or str(error)) from error
        except EngineMissingError as error:
            raise _not_given_back(directory, error.happened) from error
        if code != 0:
            raise _not_given_back(directory, f"chown in {image} ended with exit code {code}")

    def _is_rootless(self) -> bool:
        return "name=rootless" in self.client.info().get("SecurityOptions", ())


class DockerContainer:
    """A started container, with a thread that waits for its end."""

    def __init__(
        self,
        container: Any,
        chunks: Iterator[tuple[bytes | None, bytes | None]],
        container_port: int,
        network_settings: Mapping[str, Any],
    ) -> None:
        self._container = container
        self._container_port = container_port
        self._network_settings = network_settings
        self._chunks = chunks
        self._ended = threading.Event()
        self._exit_code = 0
        self._lost: EngineMissingError | None = None
        self.name = str(container.name)
        self.port = _published_port(network_settings, container_port)
        threading.Thread(target=self._await_end, name=f"wait-{container.name}", daemon=True).start()

    def _await_end(self) -> None:
        try:
            self._exit_code = self._ask_for_end()
        except docker.errors.NotFound:
            self._exit_code = 137  # removed behind our back; nobody can tell how it ended
        except (docker.errors.DockerException, RequestException) as error:
            self._lost = EngineMissingError(
                f"the Docker engine has not answered for {ENGINE_SECONDS:g} s: {error}",
                f"nobody can tell how the container {self.name} ended, or whether it has",
                "see that the engine runs (`docker version`), and run this again: `byoc ps` removes what is left",
            )
        finally:
            self._ended.set()

    def _ask_for_end(self) -> int:
        """Wait for the end, also while the engine is started again; it knows then how the container ended."""
        limit: float | None = None
        while True:
            try:
                return int(self._container.wait(timeout=None)["StatusCode"])
            except docker.errors.NotFound:
                raise
            except (docker.errors.DockerException, RequestException):
                limit = limit or time.monotonic() + ENGINE_SECONDS
                if time.monotonic() > limit:
                    raise
                time.sleep(ENGINE_PAUSE_SECONDS)

    def logs(self) -> Iterator[Chunk]:
        """Yield the raw bytes of both streams until the container ends."""
        for stdout, stderr in self._chunks:
            if stdout:
                yield Chunk("stdout", stdout)
            if stderr:
                yield Chunk("stderr", stderr)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; see ``Running.wait``."""
        if not self._ended.wait(timeout):
            raise TimeoutError
        if self._lost is not None:
            raise self._lost
        return self._exit_code

    def stop(self, grace_seconds: float) -> int:
        """SIGTERM, after the grace SIGKILL, as ``docker stop`` does."""
        if not self._ended.is_set():
            with suppress(docker.errors.APIError, RequestException):  # it may end by itself meanwhile
                self._container.kill(signal="SIGTERM")
            if not self._ended.wait(grace_seconds):
                with suppress(docker.errors.APIError, RequestException):
                    self._container.kill(signal="SIGKILL")
        return self.wait()

    @cached_property
    def address(self) -> tuple[str, int] | None:
        """Its own address where this machine is on its network, else the published port; see ``Running.address``."""
        for network in self._network_settings["Networks"].values():
            if is_on_link(network["IPAddress"], network["IPPrefixLen"]):
                return network["IPAddress"], self._container_port
        return None if self.port is None else (LOOPBACK, self.port)

    def kill(self, number: int) -> None:
        """Send a signal to process 1; see ``Running.kill``."""
        with suppress(docker.errors.APIError):  # it may have ended
            self._container.kill(signal=number)

    def remove(self) -> None:
        """Kill it if it runs, and delete it with its anonymous volumes."""
        _remove(self._container)


def is_on_link(address: str, prefix: int) -> bool:
    """Whether this machine has an address of its own in the network of ``address``, so that no gateway is between.

    It has on a bridge of the local engine; it has not where the engine runs in a virtual machine or without root.
    """
    if not address:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing: the system chooses the way
        except OSError:
            return False
        own = str(probe.getsockname()[0])
    return ip_address(own) in ip_network(f"{address}/{prefix}", strict=False)


def _remove(container: Any) -> None:
    try:
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != 409:
            raise
        with suppress(docker.errors.DockerException, RequestException):  # another removes it at this moment
            container.wait(condition="removed", timeout=REMOVAL_SECONDS)


def _log_from_the_beginning(container: Any) -> Iterator[tuple[bytes | None, bytes | None]]:
    # Attaching with what was logged before loses its first bytes in the SDK; the log has both streams in one.
    for data in container.logs(stdout=True, stderr=True, stream=True, follow=True):
        yield data, None


def _filters(labels: Mapping[str, str | None]) -> list[str]:
    return [key if value is None else f"{key}={value}" for key, value in labels.items()]


def _main_port(settings: Mapping[str, Any]) -> int:
    published = [int(key.partition("/")[0]) for key, bindings in (settings["Ports"] or {}).items() if bindings]
    return SERVING_PORT if SERVING_PORT in published else min(published, default=SERVING_PORT)


def _published_port(settings: Mapping[str, Any], container_port: int) -> int | None:
    bindings = (settings["Ports"] or {}).get(f"{container_port}/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None


def _gpu_request(text: str) -> docker.types.DeviceRequest:
    wanted = parse_gpus(text)
    if isinstance(wanted, int):
        return docker.types.DeviceRequest(count=wanted, capabilities=[["gpu"]])
    return docker.types.DeviceRequest(device_ids=list(wanted), capabilities=[["gpu"]])


def _has_files_of_others(directory: Path, user: int) -> bool:
    # A folder that cannot be entered is another's itself.
    return any(path.lstat().st_uid != user for path in (directory, *directory.rglob("*")))


def _not_given_back(directory: Path, reason: str) -> UsageError:
    return UsageError(
        f"{directory} has files of the container's user: {reason}",
        "they should belong to you",
        f"run `sudo chown -R {os.getuid()} {directory}`",
    )


def _refused(plan: ContainerPlan, error: docker.errors.APIError) -> LocalSageMakerError:
    reason = error.explanation or str(error)
    if plan.limits.gpus is not None and ("device driver" in reason or "nvidia" in reason.lower()):
        return EngineMissingError(
            f"--gpus {plan.limits.gpus}: Docker has no GPU to give: {reason}",
            "a job that asks for GPUs does not run on the CPU instead",
            "install the NVIDIA container toolkit, or leave out --gpus",
        )
    if "port is already allocated" in reason or "address already in use" in reason:
        return UsageError(
            f"port {plan.port} of {LOOPBACK} is taken", "an endpoint needs a free port", "choose another, or --port 0"
        )
    return UsageError(
        f"Docker refuses to start {plan.image}: {reason}",
        f"the image must have an executable {plan.command} on PATH and accept the mounts",
        "see the plan with --dry-run",
    )

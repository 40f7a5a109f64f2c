"""Containers of the Docker engine, through its SDK."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.engines.base import SHARED_NETWORK, ContainerPlan, Engine, FoundContainer, Mount, NetworkPlan
from local_sagemaker.engines.docker_command import LOOPBACK, network_command, run_command
from local_sagemaker.engines.docker_container import (
    DockerContainer,
    main_port,
    published_port,
    remove_container,
)
from local_sagemaker.engines.docker_network import job_network, remove_networks
from local_sagemaker.engines.gpus import parse_gpus
from local_sagemaker.engines.image_lookup import find_image
from local_sagemaker.engines.overlay import overlay_options
from local_sagemaker.errors import EngineMissingError, LocalSageMakerError, UsageError

# Each container holds a connection for its log and one for its end; a job has 20 hosts at most.
MAX_CONNECTIONS = 64
PING_SECONDS = 20
# A busy machine takes minutes to lay out an image of gigabytes.
ANSWER_SECONDS = 300


def answers() -> bool:
    """Whether a Docker engine answers on this machine."""
    try:
        client = docker.from_env(timeout=PING_SECONDS)
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
            client = docker.from_env(timeout=ANSWER_SECONDS, max_pool_size=MAX_CONNECTIONS)
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

    def network(self, plan: NetworkPlan) -> AbstractContextManager[Mapping[str, str]]:
        """Make a bridge network, internal where it is isolated; see ``Engine.network``."""
        return job_network(self.client, plan)

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
            settings = self._network_settings(container)
        except docker.errors.APIError as error:
            remove_container(container)
            raise _refused(plan, error) from error
        except BaseException:
            remove_container(container)
            raise
        return DockerContainer(container, chunks, plan.container_port, settings)

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
        except (KeyboardInterrupt, RequestException):
            self._remove_if_made(plan)
            raise

    def find(self, labels: Mapping[str, str | None]) -> list[FoundContainer]:
        """The containers that carry the labels, ended ones too; see ``Engine.find``."""
        found = []
        for container in self._containers(labels):
            state, settings = container.attrs["State"], container.attrs["NetworkSettings"]
            ended = state["Status"] in {"exited", "dead"}
            code = int(state["ExitCode"]) if ended else None
            port = published_port(settings, main_port(settings))
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
            remove_container(container)
        return len(containers) + remove_networks(self.client, _filters(labels))

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
            "mounts": [_mount(mount) for mount in plan.mounts],
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
                mounts=[_mount(Mount(directory, "/byoc-job"))],
                network_mode="none",
                user="0:0",
                labels=dict(labels or {}),
            )
            try:
                container.start()
                code = container.wait()["StatusCode"]
            finally:
                remove_container(container)
        except docker.errors.APIError as error:
            raise _not_given_back(directory, error.explanation or str(error)) from error
        except EngineMissingError as error:
            raise _not_given_back(directory, error.happened) from error
        if code != 0:
            raise _not_given_back(directory, f"chown in {image} ended with exit code {code}")

    def _is_rootless(self) -> bool:
        return "name=rootless" in self.client.info().get("SecurityOptions", ())


def _filters(labels: Mapping[str, str | None]) -> list[str]:
    return [key if value is None else f"{key}={value}" for key, value in labels.items()]


def _mount(mount: Mount) -> docker.types.Mount:
    """No ``SOURCE:TARGET``, which a folder with a colon in its name would break."""
    if mount.changes is None:
        return docker.types.Mount(mount.target, str(mount.source), type="bind", read_only=mount.read_only)
    driver = docker.types.DriverConfig("local", overlay_options(mount.source, mount.changes))
    return docker.types.Mount(mount.target, None, driver_config=driver)


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

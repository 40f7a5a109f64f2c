"""Containers of the Docker engine, through its SDK."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.engines.base import SERVING_PORT, Chunk, ContainerPlan, NetworkPlan
from local_sagemaker.errors import EngineMissingError, UsageError

LOOPBACK = "127.0.0.1"
# Each container holds a connection for its log and one for its end; a job has 20 hosts at most.
MAX_CONNECTIONS = 64
# Within a job's network; below it is the gateway.
FIRST_ADDRESS = 10


def docker_answers() -> bool:
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
        words = ["docker", "run", "--name", plan.name, "--hostname", plan.hostname, "--network", plan.network]
        if plan.has_peers:
            words += ["--network-alias", plan.hostname, "--detach"]
            if plan.hostname in plan.addresses:
                words += ["--ip", plan.addresses[plan.hostname]]
            for host, where in plan.addresses.items():
                words += ["--add-host", f"{host}:{where}"]
        words += ["--shm-size", str(plan.limits.shm_bytes)]
        if plan.limits.memory_bytes is not None:
            words += ["--memory", str(plan.limits.memory_bytes), "--memory-swap", str(plan.limits.memory_bytes)]
        if plan.limits.cpus is not None:
            words += ["--cpus", f"{plan.limits.cpus:g}"]
        for key, value in sorted(plan.labels.items()):
            words += ["--label", f"{key}={value}"]
        for key, value in sorted(plan.environment.items()):
            words += ["--env", f"{key}={value}"]
        for mount in plan.mounts:
            words += ["--volume", f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"]
        if plan.port is not None:
            words += ["--publish", f"{LOOPBACK}:{plan.port or ''}:{SERVING_PORT}"]
        return shlex.join([*words, plan.image, plan.command])

    def describe_network(self, plan: NetworkPlan) -> str:
        """The ``docker network create`` command that ``network`` amounts to."""
        words = ["docker", "network", "create", *(["--internal"] if plan.isolated else [])]
        for key, value in sorted(plan.labels.items()):
            words += ["--label", f"{key}={value}"]
        return shlex.join([*words, plan.name])

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

    def start(self, plan: ContainerPlan) -> DockerContainer:
        """Create the container, attach to its output, then start it, so that no byte of the log is missed.

        Raises:
            EngineMissingError: if the image is absent.
            UsageError: if the port is taken, or Docker refuses the plan.
        """
        try:
            container = self.client.containers.create(plan.image, [plan.command], **self._options(plan))
        except docker.errors.ImageNotFound as error:
            raise EngineMissingError(
                f"there is no image {plan.image}",
                "a job runs in an image that this machine has",
                f"build it: `byoc build --tag {plan.image}`",
            ) from error
        except docker.errors.APIError as error:
            raise _refused(plan, error) from error
        except KeyboardInterrupt:
            self._remove_if_made(plan)
            raise
        try:
            chunks = container.attach(stdout=True, stderr=True, stream=True, logs=False, demux=True)
            container.start()
            container.reload()
        except docker.errors.APIError as error:
            container.remove(force=True, v=True)
            raise _refused(plan, error) from error
        except BaseException:
            container.remove(force=True, v=True)
            raise
        return DockerContainer(container, chunks)

    def _options(self, plan: ContainerPlan) -> dict[str, Any]:
        options: dict[str, Any] = {
            "name": plan.name,
            "hostname": plan.hostname,
            "environment": dict(plan.environment),
            "labels": dict(plan.labels),
            "shm_size": plan.limits.shm_bytes,
            "volumes": {
                str(mount.source): {"bind": mount.target, "mode": "ro" if mount.read_only else "rw"}
                for mount in plan.mounts
            },
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
        if plan.network == "none":
            # A host of a job always finds itself by name; without a network Docker does not see to that.
            options["extra_hosts"] = {plan.hostname: LOOPBACK}
        if plan.port is not None:
            options["ports"] = {f"{SERVING_PORT}/tcp": (LOOPBACK, plan.port or None)}
        return options

    def _remove_if_made(self, plan: ContainerPlan) -> None:
        with suppress(docker.errors.DockerException, RequestException):
            container = self.client.containers.get(plan.name)
            if plan.labels.items() <= container.labels.items():
                container.remove(force=True, v=True)

    def give_back(self, directory: Path, image: str) -> None:
        """Change the owner of what root wrote in the container to the invoking user, where that is not root."""
        user = os.getuid()
        if user == 0 or not directory.exists():
            return
        self.client.containers.run(
            image,
            ["-R", f"{user}:{os.getgid()}", "/byoc-job"],
            entrypoint="chown",
            volumes={str(directory): {"bind": "/byoc-job", "mode": "rw"}},
            network_mode="none",
            user="0:0",
            remove=True,
        )


class DockerContainer:
    """A started container, with a thread that waits for its end."""

    def __init__(self, container: Any, chunks: Iterator[tuple[bytes | None, bytes | None]]) -> None:
        self._container = container
        self._chunks = chunks
        self._ended = threading.Event()
        self._exit_code = 0
        self.port = _published_port(container.attrs)
        threading.Thread(target=self._await_end, name=f"wait-{container.name}", daemon=True).start()

    def _await_end(self) -> None:
        try:
            self._exit_code = int(self._container.wait(timeout=None)["StatusCode"])
        except (docker.errors.DockerException, RequestException):
            self._exit_code = 137  # removed or lost behind our back; nobody can tell how it ended
        finally:
            self._ended.set()

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
        return self._exit_code

    def stop(self, grace_seconds: float) -> int:
        """SIGTERM, after the grace SIGKILL, as ``docker stop`` does."""
        if not self._ended.is_set():
            with suppress(docker.errors.APIError):  # it may end by itself meanwhile
                self._container.kill(signal="SIGTERM")
            if not self._ended.wait(grace_seconds):
                with suppress(docker.errors.APIError):
                    self._container.kill(signal="SIGKILL")
        return self.wait()

    def remove(self) -> None:
        """Kill it if it runs, and delete it with its anonymous volumes."""
        with suppress(docker.errors.NotFound):
            self._container.remove(force=True, v=True)


def _published_port(attributes: dict[str, Any]) -> int | None:
    bindings = attributes["NetworkSettings"]["Ports"].get(f"{SERVING_PORT}/tcp")
    return int(bindings[0]["HostPort"]) if bindings else None


def _refused(plan: ContainerPlan, error: docker.errors.APIError) -> UsageError:
    reason = error.explanation or str(error)
    if "port is already allocated" in reason or "address already in use" in reason:
        return UsageError(
            f"port {plan.port} of {LOOPBACK} is taken", "an endpoint needs a free port", "choose another, or --port 0"
        )
    return UsageError(
        f"Docker refuses to start {plan.image}: {reason}",
        f"the image must have an executable {plan.command} on PATH and accept the mounts",
        "see the plan with --dry-run",
    )

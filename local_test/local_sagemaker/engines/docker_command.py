"""The ``docker`` commands that a plan amounts to, for people who read a plan before it runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from local_sagemaker.engines.base import ContainerPlan, Limits, Mount, NetworkPlan
from local_sagemaker.engines.overlay import overlay_options

LOOPBACK = "127.0.0.1"


def run_command(plan: ContainerPlan) -> str:
    """The ``docker run`` command of a container; before its network is made, without addresses."""
    return shlex.join(
        [
            *("docker", "run", "--name", plan.name),
            *_network(plan),
            *_limits(plan.limits),
            *_isolation(plan),
            *_labels(plan.labels),
            *(word for key, value in sorted(plan.environment.items()) for word in ("--env", f"{key}={value}")),
            *_mounts(plan),
            *_ports(plan),
            *(("--entrypoint", plan.entrypoint[0]) if plan.entrypoint else ()),
            plan.image,
            *plan.words,
        ]
    )


def network_command(plan: NetworkPlan) -> str:
    """The ``docker network create`` command of a network."""
    isolated = ["--internal"] if plan.isolated else []
    return shlex.join(["docker", "network", "create", *isolated, *_labels(plan.labels), plan.name])


def _network(plan: ContainerPlan) -> list[str]:
    words = [] if plan.shares_network else ["--hostname", plan.hostname]
    words += ["--network", plan.network]
    if not plan.has_peers:
        return words
    words += ["--network-alias", plan.hostname, "--detach"]
    if plan.hostname in plan.addresses:
        words += ["--ip", plan.addresses[plan.hostname]]
    for host, where in plan.addresses.items():
        words += ["--add-host", f"{host}:{where}"]
    return words


def _limits(limits: Limits) -> list[str]:
    words = ["--shm-size", str(limits.shm_bytes)]
    if limits.memory_bytes is not None:
        words += ["--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)]
    if limits.cpus is not None:
        words += ["--cpus", f"{limits.cpus:g}"]
    if limits.gpus is not None:
        words += ["--gpus", limits.gpus]
    return words


def _isolation(plan: ContainerPlan) -> list[str]:
    words = ["--read-only"] if plan.read_only_root else []
    words += [word for folder in plan.tmpfs for word in ("--tmpfs", folder)]
    return words if plan.user is None else [*words, "--user", plan.user]


def _labels(labels: Mapping[str, str]) -> list[str]:
    return [word for key, value in sorted(labels.items()) for word in ("--label", f"{key}={value}")]


def _mounts(plan: ContainerPlan) -> list[str]:
    return [word for mount in plan.mounts for word in ("--mount", _mount(mount))]


def _mount(mount: Mount) -> str:
    if mount.changes is None:
        fields = ["type=bind", f"src={mount.source}", f"dst={mount.target}", *(["readonly"] if mount.read_only else [])]
    else:
        options = overlay_options(mount.source, mount.changes).items()
        fields = ["type=volume", f"dst={mount.target}", "volume-driver=local"]
        fields += [f"volume-opt={key}={value}" for key, value in options]
    return ",".join(map(_quoted, fields))


def _quoted(text: str) -> str:
    """A field of a line of CSV, as ``--mount`` is read."""
    if not any(character in text for character in ',"\n'):
        return text
    return '"{}"'.format(text.replace('"', '""'))


def _ports(plan: ContainerPlan) -> list[str]:
    words = [] if plan.port is None else ["--publish", f"{LOOPBACK}:{plan.port or ''}:{plan.container_port}"]
    return words + [word for port in plan.publish for word in ("--publish", f"{LOOPBACK}::{port}")]

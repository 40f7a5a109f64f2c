"""What a check that was killed has left in the engine: known by its labels, and by its process that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from local_sagemaker.state.process_space import process_space
from local_sagemaker.state.records import Runner

LABEL = "sagemaker-byoc.check"
RUNNER_LABEL = "sagemaker-byoc.check-runner"


def runner_labels() -> dict[str, str]:
    """The labels that tell which process a container or network belongs to."""
    runner = Runner.here()
    return {RUNNER_LABEL: f"{process_space()} {runner.pid} {runner.started}"}


def is_abandoned(labels: Mapping[str, str]) -> bool:
    """Whether the process that made it is gone; what another machine or container has made is not ours to judge."""
    place, _, process = labels.get(RUNNER_LABEL, "").partition(" ")
    pid, _, started = process.partition(" ")
    return place == process_space() and pid.isdigit() and not Runner(int(pid), started).is_alive


def remove_abandoned(client: Any) -> int:
    """Remove the containers and networks of checks that were killed; how many there were."""
    import docker.errors  # noqa: PLC0415 - whoever only reads labels does not pay for it

    removed = 0
    for container in client.containers.list(all=True, filters={"label": RUNNER_LABEL}, ignore_removed=True):
        if is_abandoned(container.labels):
            with suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
                removed += 1
    for network in client.networks.list(filters={"label": RUNNER_LABEL}):
        if is_abandoned(network.attrs.get("Labels") or {}):
            with suppress(docker.errors.APIError):
                network.remove()
                removed += 1
    return removed

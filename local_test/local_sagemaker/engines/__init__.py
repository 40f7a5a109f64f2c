"""Ways of running a container: the Docker engine, or plain processes where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from local_sagemaker.engines.base import (
    BASE_DIR,
    SERVING_PORT,
    Chunk,
    ContainerPlan,
    Engine,
    FoundContainer,
    Limits,
    Mount,
    NetworkPlan,
    Running,
)
from local_sagemaker.engines.process import ProcessEngine, free_port

if TYPE_CHECKING:
    from local_sagemaker.engines.docker import DockerEngine

__all__ = [
    "BASE_DIR",
    "SERVING_PORT",
    "Chunk",
    "ContainerPlan",
    "DockerEngine",
    "Engine",
    "EngineName",
    "FoundContainer",
    "Limits",
    "Mount",
    "NetworkPlan",
    "ProcessEngine",
    "Running",
    "answering_engines",
    "choose_engine",
    "docker_answers",
    "free_port",
    "image_labels",
]

EngineName = Literal["auto", "docker", "process"]
SOCKET = "unix://"
DOCKER_SOCKET = f"{SOCKET}/var/run/docker.sock"


def __getattr__(name: str) -> Any:
    """Docker's SDK takes a third of a second to import, which a verb pays only when it meets Docker."""
    if name != "DockerEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from local_sagemaker.engines.docker import DockerEngine  # noqa: PLC0415 - see above

    return DockerEngine


def docker_answers() -> bool:
    """Whether a Docker engine answers on this machine."""
    address = os.environ.get("DOCKER_HOST") or DOCKER_SOCKET
    if address.startswith(SOCKET) and not Path(address.removeprefix(SOCKET)).exists():
        return False
    from local_sagemaker.engines.docker import answers  # noqa: PLC0415 - see above

    return answers()


def answering_engines() -> list[Engine]:
    """Every engine that answers here."""
    return [ProcessEngine(), *([choose_engine("docker")] if docker_answers() else [])]


def choose_engine(name: EngineName = "auto") -> Engine:
    """Connect to the named engine; ``auto`` is Docker where it answers, else processes.

    Raises:
        EngineMissingError: if Docker was asked for and does not answer.
    """
    if name == "docker" or (name == "auto" and docker_answers()):
        from local_sagemaker.engines.docker import DockerEngine  # noqa: PLC0415 - see above

        return DockerEngine.connect()
    return ProcessEngine()


def image_labels(engine: Engine, image: str) -> dict[str, str] | None:
    """An image's labels; None where there is none to look at: the engine has no images, or not this one."""
    if engine.name != "docker":
        return None
    from local_sagemaker.engines.docker import labels_of_image  # noqa: PLC0415 - see above

    return labels_of_image(engine, image)

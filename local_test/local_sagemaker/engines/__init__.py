"""Ways of running a container: the Docker engine, or plain processes where there is none."""

from __future__ import annotations

from typing import Literal

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
from local_sagemaker.engines.docker import DockerEngine, docker_answers
from local_sagemaker.engines.process import ProcessEngine, free_port

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
    "choose_engine",
    "docker_answers",
    "free_port",
]

EngineName = Literal["auto", "docker", "process"]


def choose_engine(name: EngineName = "auto") -> Engine:
    """Connect to the named engine; ``auto`` is Docker where it answers, else processes.

    Raises:
        EngineMissingError: if Docker was asked for and does not answer.
    """
    if name == "docker" or (name == "auto" and docker_answers()):
        return DockerEngine.connect()
    return ProcessEngine()

"""What is examined: an image, and what its container needs to train and to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_sagemaker.conformance.rule import Role

STARTUP_SECONDS = 120.0
TRAINING_SECONDS = 120.0


@dataclass(frozen=True)
class Payload:
    """A request body that the image's server understands."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Subject:
    """The image and what was given for it.

    Attributes:
        image: its reference.
        hyperparameters: every value a string.
        channels: the folder of each channel.
        environment: variables for every container.
        code: a folder to mount at /opt/ml/code, or None for the image's own.
        model_data: a ``model.tar.gz`` or a model directory, or None for what training leaves.
        payload: what is sent to ``/invocations``.
        strict: whether memory is small as well.
        roles: what it is for, where that was said; None for what is found in it.
        gpus: for every container, as Docker writes it; None for none.
        startup_seconds: until ``/ping`` has to answer 200.
        training_seconds: the longest that one training may take.
    """

    image: str
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    channels: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    code: Path | None = None
    model_data: Path | None = None
    payload: Payload | None = None
    strict: bool = False
    roles: frozenset[Role] | None = None
    gpus: str | None = None
    startup_seconds: float = STARTUP_SECONDS
    training_seconds: float = TRAINING_SECONDS

"""How containers are asked: so many requests at a time, so large, of one record or of many.

Source: API reference, CreateTransformJob; SageMaker developer guide, "Custom Inference Code with Batch Transform".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from local_sagemaker.errors import ValidationError

Strategy = Literal["MultiRecord", "SingleRecord"]

DEFAULT_MAX_PAYLOAD_MB = 6
DEFAULT_MAX_CONCURRENT = 1
DEFAULT_STRATEGY: Strategy = "MultiRecord"
# Of MaxConcurrentTransforms times MaxPayloadInMB, on each instance.
LIMIT_MB = 100
# As the platform writes them in variables and in answers to /execution-parameters.
STRATEGIES: Mapping[str, Strategy] = {"MULTI_RECORD": "MultiRecord", "SINGLE_RECORD": "SingleRecord"}


@dataclass(frozen=True)
class Demands:
    """How a container is asked; None or 0 concurrent requests leave it to the container.

    Attributes:
        max_payload_mb: of one request's body; 0 for any size, sent in pieces.
    """

    max_concurrent: int | None = None
    max_payload_mb: int | None = None
    strategy: Strategy | None = None


@dataclass(frozen=True)
class Pace:
    """How containers are asked, as it was agreed: request, else container, else default."""

    max_concurrent: int
    max_payload_mb: int
    strategy: Strategy

    @property
    def limit_bytes(self) -> int | None:
        """Of a request's body; None for any."""
        return self.max_payload_mb << 20 or None

    @property
    def is_single(self) -> bool:
        """Whether a request carries one record."""
        return self.strategy == "SingleRecord"

    def __str__(self) -> str:
        return (
            f"MaxConcurrentTransforms={self.max_concurrent}, MaxPayloadInMB={self.max_payload_mb}, "
            f"BatchStrategy={self.strategy}"
        )


def agree(demands: Demands, offered: Mapping[str, Any]) -> Pace:
    """Settle how containers are asked.

    Args:
        demands: the request's.
        offered: the container's answer to GET /execution-parameters, {} if it has none.

    Raises:
        ValidationError: if that is more than an instance takes at a time.
    """
    payload = demands.max_payload_mb
    if payload is None:
        payload = _number(offered, "MaxPayloadInMB", DEFAULT_MAX_PAYLOAD_MB)
    pace = Pace(
        demands.max_concurrent or _number(offered, "MaxConcurrentTransforms", DEFAULT_MAX_CONCURRENT) or 1,
        payload,
        demands.strategy or STRATEGIES.get(str(offered.get("BatchStrategy")), DEFAULT_STRATEGY),
    )
    refuse_too_much(pace.max_concurrent, pace.max_payload_mb)
    return pace


def refuse_too_much(concurrent: int, payload_mb: int) -> None:
    """Raise ValidationError for more than an instance takes at a time."""
    if payload_mb > LIMIT_MB:
        raise ValidationError(
            f"MaxPayloadInMB {payload_mb} is more than {LIMIT_MB}.", "give less, or 0 for objects of any size"
        )
    if concurrent * payload_mb > LIMIT_MB:
        raise ValidationError(
            f"MaxConcurrentTransforms {concurrent} times MaxPayloadInMB {payload_mb} is more than {LIMIT_MB} MB.",
            f"set MaxPayloadInMB to {LIMIT_MB // concurrent or 1} or fewer concurrent transforms",
        )


def _number(offered: Mapping[str, Any], name: str, default: int) -> int:
    value = offered.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default

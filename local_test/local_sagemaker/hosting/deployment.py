"""How an update moves traffic from the old fleet to the new one: the steps of a DeploymentConfig, nothing done yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal

LONGEST_SECONDS = 3600.0 * 4

Kind = Literal["BlueGreen", "Rolling"]


@dataclass(frozen=True)
class Step:
    """A share of the traffic (of the fleet, where it rolls) that is new, and how long alarms are watched then."""

    share: float
    bake_seconds: float


@dataclass(frozen=True)
class Deployment:
    """An update, completely described and not yet begun.

    Attributes:
        kind: ``BlueGreen`` has both fleets at once; ``Rolling`` replaces a batch of instances after the other.
        steps: up to all of it.
        termination_wait_seconds: how long the old fleet stays after the last step.
        limit_seconds: how long the whole may take before it is rolled back.
        alarms: the names of those that roll it back.
        rollback_share: how much of the fleet goes back at a time, where it rolls.
    """

    kind: Kind
    steps: tuple[Step, ...]
    termination_wait_seconds: float = 0.0
    limit_seconds: float = LONGEST_SECONDS
    alarms: tuple[str, ...] = ()
    rollback_share: float = 1.0


def plan_deployment(config: Mapping[str, Any] | None, instances: int) -> Deployment:
    """Describe an update of a fleet of ``instances``; without a configuration all traffic shifts at once."""
    config = config or {}
    alarms = tuple(alarm["AlarmName"] for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", ()))
    rolling = config.get("RollingUpdatePolicy")
    if rolling is not None:
        return _plan_rolling(rolling, instances, alarms)
    policy = config.get("BlueGreenUpdatePolicy", {})
    return Deployment(
        "BlueGreen",
        _traffic_steps(policy.get("TrafficRoutingConfiguration", {}), instances),
        float(policy.get("TerminationWaitInSeconds", 0)),
        float(policy.get("MaximumExecutionTimeoutInSeconds", LONGEST_SECONDS)),
        alarms,
    )


def _traffic_steps(routing: Mapping[str, Any], instances: int) -> tuple[Step, ...]:
    bake = float(routing.get("WaitIntervalInSeconds", 0))
    kind = routing.get("Type", "ALL_AT_ONCE")
    if kind == "CANARY":
        return (Step(_share(routing["CanarySize"], instances), bake), Step(1.0, bake))
    if kind == "LINEAR":
        return _up_to_all(_share(routing["LinearStepSize"], instances), bake)
    return (Step(1.0, bake),)


def _plan_rolling(policy: Mapping[str, Any], instances: int, alarms: tuple[str, ...]) -> Deployment:
    batch = _whole_instances(_share(policy["MaximumBatchSize"], instances), instances)
    back = policy.get("RollbackMaximumBatchSize")
    return Deployment(
        "Rolling",
        _up_to_all(batch, float(policy["WaitIntervalInSeconds"])),
        limit_seconds=float(policy.get("MaximumExecutionTimeoutInSeconds", LONGEST_SECONDS)),
        alarms=alarms,
        rollback_share=1.0 if back is None else _whole_instances(_share(back, instances), instances),
    )


def _share(size: Mapping[str, Any], instances: int) -> float:
    if size["Type"] == "CAPACITY_PERCENT":
        return min(float(size["Value"]) / 100, 1.0)
    return min(float(size["Value"]) / max(instances, 1), 1.0)


def _whole_instances(share: float, instances: int) -> float:
    """A batch has at least one instance and no part of one."""
    return max(1, floor(share * instances)) / max(instances, 1)


def _up_to_all(step: float, bake: float) -> tuple[Step, ...]:
    count = ceil(round(1 / step, 9))
    return tuple(Step(min(1.0, step * (place + 1)) if place + 1 < count else 1.0, bake) for place in range(count))

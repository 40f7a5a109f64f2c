"""An update under way: traffic moves step by step from the old fleet to the new one, and back if that does badly.

Like a fleet, an update is tended and never waits.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from math import ceil

from local_sagemaker.hosting.deployment import Deployment
from local_sagemaker.hosting.fleet import Fleet
from local_sagemaker.hosting.routing import RoutingTable

ROLLBACK_SECONDS = 600.0


class Phase(StrEnum):
    """Where an update is."""

    STARTING = "Starting"
    BAKING = "Baking"
    TERMINATING = "Terminating"
    ROLLING_BACK = "RollingBack"
    DONE = "Done"
    ROLLED_BACK = "RolledBack"
    ROLLBACK_FAILED = "RollbackFailed"


class Update:
    """From ``old`` to ``new`` as ``deployment`` says.

    Args:
        old: the fleet in service.
        new: the fleet wanted, not started.
        deployment: the way there.
        alarm: why an alarm fires on the new fleet now, or None.
        note: told each step.
        table: what routes a share of requests to the new fleet.
        now: the monotonic clock.
    """

    def __init__(
        self,
        old: Fleet,
        new: Fleet,
        deployment: Deployment,
        alarm: Callable[[Fleet], str | None],
        note: Callable[[str], None],
        table: Callable[[Fleet, Fleet, float], RoutingTable],
        now: float,
    ) -> None:
        self.old = old
        self.new = new
        self.deployment = deployment
        self.share = 0.0
        self.phase = Phase.STARTING
        self.reason = ""
        self._alarm = alarm
        self._note = note
        self._table = table
        self._deadline = now + deployment.limit_seconds
        self._step = 0
        self._until = now
        self._back: list[float] = []
        self._counts = {id(variant): variant.desired for fleet in (old, new) for variant in fleet}
        if deployment.kind == "Rolling":
            self._want(new, 0)
        self._reach(deployment.steps[0].share)

    @property
    def is_over(self) -> bool:
        """Whether one fleet has all traffic for good."""
        return self.phase in {Phase.DONE, Phase.ROLLED_BACK, Phase.ROLLBACK_FAILED}

    @property
    def winner(self) -> Fleet:
        """The fleet that stays."""
        return self.new if self.phase is Phase.DONE else self.old

    def table(self) -> RoutingTable:
        """Where requests go now."""
        return self._table(self.old, self.new, self.share)

    def tend(self, now: float) -> None:
        """Tend both fleets and go one step further if it is time."""
        self.old.tend()
        self.new.tend()
        if self.phase is Phase.ROLLING_BACK:
            self._go_back(now)
        elif self.phase is Phase.TERMINATING:
            if now >= self._until:
                self.phase = Phase.DONE
        elif self.phase in {Phase.STARTING, Phase.BAKING}:
            reason = self._trouble(now)
            if reason:
                self.roll_back(reason, now)
            elif self.phase is Phase.STARTING:
                self._shift(now)
            elif now >= self._until:
                self._next(now)

    def roll_back(self, reason: str, now: float) -> None:
        """Give the traffic back to the old fleet, which may have to grow for that."""
        self._note(f"rolling back to {self.old.config_name}: {reason}")
        self.reason = reason
        self.phase = Phase.ROLLING_BACK
        self._deadline = now + ROLLBACK_SECONDS
        size = self.deployment.rollback_share
        shares = [self.share - size * place for place in range(1, ceil(self.share / size) + 1)]
        self._back = [max(share, 0.0) for share in shares] or [0.0]

    def _trouble(self, now: float) -> str | None:
        failed = self.new.failed
        if failed is not None:
            return f"instance {failed.name} of variant {failed.variant.name}: {failed.reason()}"
        if now > self._deadline:
            return f"the update took longer than {self.deployment.limit_seconds:g} s"
        return self._alarm(self.new) if self.phase is Phase.BAKING else None

    def _shift(self, now: float) -> None:
        if not self.new.is_complete:
            return
        step = self.deployment.steps[self._step]
        self.share = step.share
        self._until = now + step.bake_seconds
        self.phase = Phase.BAKING
        self._note(f"{step.share:.0%} of the traffic goes to {self.new.config_name}, for {step.bake_seconds:g} s")
        if self.deployment.kind == "Rolling":
            self._want(self.old, 1 - self.share)

    def _next(self, now: float) -> None:
        self._step += 1
        if self._step < len(self.deployment.steps):
            self._reach(self.deployment.steps[self._step].share)
            self.phase = Phase.STARTING
        else:
            self._until = now + self.deployment.termination_wait_seconds
            self.phase = Phase.TERMINATING

    def _go_back(self, now: float) -> None:
        wanted = self._back[0]
        if self.deployment.kind == "Rolling":
            self._want(self.old, 1 - wanted)
        if not self.old.is_complete:
            if now > self._deadline:
                self.phase = Phase.ROLLBACK_FAILED
            return
        self.share = wanted
        self._back.pop(0)
        if self.deployment.kind == "Rolling":
            self._want(self.new, wanted)
        if not self._back:
            self.phase = Phase.ROLLED_BACK

    def _reach(self, share: float) -> None:
        """Have as many new instances as a step needs; with both fleets whole that is all of them."""
        if self.deployment.kind == "Rolling":
            self._want(self.new, share)

    def _want(self, fleet: Fleet, share: float) -> None:
        for variant in fleet:
            variant.desired = ceil(round(share * self._counts[id(variant)], 9))

"""The steps of an update by the clock, with fleets that are as complete as a test says."""

from dataclasses import dataclass, field
from typing import Any, cast

from local_sagemaker.hosting.deployment import Deployment, Step
from local_sagemaker.hosting.fleet import Fleet
from local_sagemaker.hosting.routing import RoutingTable
from local_sagemaker.hosting.update import ROLLBACK_SECONDS, Phase, Update


@dataclass
class Counted:
    """A variant's number of instances, as wanted."""

    desired: int


@dataclass
class CountedFleet:
    """A fleet of one variant that never fails."""

    config_name: str
    variant: Counted
    is_complete: bool = True
    failed: None = None
    variants: list[Any] = field(default_factory=list)

    def __iter__(self):
        yield self.variant

    def tend(self) -> None:
        pass


def begin(
    deployment: Deployment, alarm: str | None = None, count: int = 2
) -> tuple[Update, CountedFleet, CountedFleet]:
    old, new = CountedFleet("old", Counted(count)), CountedFleet("new", Counted(count))
    table = RoutingTable()
    update = Update(
        cast("Fleet", old), cast("Fleet", new), deployment, lambda _: alarm, print, lambda *_: table, now=0.0
    )
    return update, old, new


STEPS = (Step(0.1, 10.0), Step(1.0, 10.0))


def test_no_traffic_shifts_before_the_new_fleet_answers():
    """20.5."""
    update, _, new = begin(Deployment("BlueGreen", STEPS))
    new.is_complete = False
    update.tend(1.0)
    assert update.share == 0
    new.is_complete = True
    update.tend(2.0)
    assert update.share == 0.1


def test_each_step_lasts_its_time_and_the_old_fleet_stays_as_long_as_asked():
    """20.5."""
    update, _, _ = begin(Deployment("BlueGreen", STEPS, termination_wait_seconds=5.0))
    shares = []
    for now in range(31):
        update.tend(float(now))
        shares.append(update.share)
    assert shares.count(0.1) == 11
    assert update.phase is Phase.DONE
    assert update.winner is update.new
    ended, _, _ = begin(Deployment("BlueGreen", (Step(1.0, 0.0),), termination_wait_seconds=5.0))
    for now in (0.0, 0.1, 4.0):
        ended.tend(now)
    assert ended.phase is Phase.TERMINATING


def test_an_update_that_takes_too_long_is_rolled_back():
    """20.5: MaximumExecutionTimeoutInSeconds."""
    update, _, new = begin(Deployment("BlueGreen", STEPS, limit_seconds=60.0))
    new.is_complete = False
    for now in (1.0, 61.0, 61.1):
        update.tend(now)
    assert update.phase is Phase.ROLLED_BACK
    assert "longer than 60 s" in update.reason


def test_a_rolling_update_goes_back_in_batches_before_it_lets_go_of_new_instances():
    """20.5: RollbackMaximumBatchSize."""
    deployment = Deployment("Rolling", (Step(0.5, 10.0), Step(1.0, 10.0)), rollback_share=0.25)
    update, old, new = begin(deployment, count=4)
    assert (old.variant.desired, new.variant.desired) == (4, 2)
    update.tend(1.0)
    assert (update.share, old.variant.desired, new.variant.desired) == (0.5, 2, 2)
    update.roll_back("asked", 2.0)
    update.tend(2.1)
    assert (update.share, old.variant.desired, new.variant.desired) == (0.25, 3, 1)
    old.is_complete = False
    update.tend(2.2)
    assert (update.share, old.variant.desired, new.variant.desired) == (0.25, 4, 1)
    old.is_complete = True
    update.tend(2.3)
    assert update.phase is Phase.ROLLED_BACK
    assert (update.share, new.variant.desired) == (0.0, 0)


def test_a_rollback_to_a_fleet_that_is_gone_fails():
    """20.5: UpdateRollbackFailed."""
    update, old, _ = begin(Deployment("BlueGreen", STEPS), alarm="it fires")
    update.tend(1.0)
    update.tend(1.1)
    old.is_complete = False
    update.tend(2.0)
    assert update.phase is Phase.ROLLING_BACK
    update.tend(ROLLBACK_SECONDS + 10)
    assert update.phase is Phase.ROLLBACK_FAILED
    assert update.winner is update.old

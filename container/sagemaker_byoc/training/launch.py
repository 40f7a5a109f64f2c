"""What a job runs, and the run of its script under supervision."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc import child, processes
from sagemaker_byoc.child import Outcome, is_stop
from sagemaker_byoc.errors import Stopped


@dataclass(frozen=True)
class LaunchPlan:
    """What will be run: printable, and complete."""

    script: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    stop_grace_seconds: float
    omitted: tuple[str, ...] = ()


def execute(plan: LaunchPlan) -> Outcome:
    """Run to the end, as `child.run` does."""
    return child.run(plan.command, plan.environ, plan.folder, plan.stop_grace_seconds)


def heed_stop(seconds: float = 0.0) -> None:
    """Wait while nothing runs yet, and heed a stop: as process 1 nobody else would. Raises Stopped."""
    deadline = time.monotonic() + seconds
    while True:
        event = processes.wait(max(0.0, deadline - time.monotonic()))
        if isinstance(event, signal.Signals) and is_stop(event):
            raise Stopped(event)
        if event is None:
            return

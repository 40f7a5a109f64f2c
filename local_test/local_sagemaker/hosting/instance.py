"""One instance of a variant: its containers from start to removal, pinged by the platform's rules all along."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from local_sagemaker.archive import remove_tree
from local_sagemaker.engines.base import Chunk, ContainerPlan, Engine, Running
from local_sagemaker.errors import LocalSageMakerError
from local_sagemaker.hosting import routing
from local_sagemaker.hosting.blueprint import VariantPlan, models_folder
from local_sagemaker.hosting.health import HEALTHY, PingHistory, ping
from local_sagemaker.logs import LogPump

STARTING_PING_SECONDS = 0.2
PING_SECONDS = 2.0
UNHEALTHY_PINGS = 3
STOP_GRACE_SECONDS = 30.0
LOG_DRAIN_SECONDS = 5.0


class InstanceState(StrEnum):
    """Where an instance is in its life."""

    STARTING = "Starting"
    IN_SERVICE = "InService"
    OUT_OF_SERVICE = "OutOfService"
    STOPPING = "Stopping"


class HostedInstance:
    """An instance; ``start`` returns at once, and ``changed`` is called whenever the state is another.

    Args:
        name: unique at the endpoint, never used again.
        variant: what it is an instance of.
        plans: its containers, in the pipeline's order.
        engine: what runs them.
        directory: for what stands for /opt/ml; deleted at the end.
        log_file: where the containers' output goes.
        changed: called from the instance's own thread.
        output: where the containers' output goes as well.
    """

    def __init__(
        self,
        name: str,
        variant: VariantPlan,
        plans: tuple[ContainerPlan, ...],
        engine: Engine,
        directory: Path,
        log_file: Path,
        changed: Callable[[], None],
        output: Callable[[Chunk], None] | None = None,
    ) -> None:
        self.name = name
        self.variant = variant
        self.log_file = log_file
        self.history = PingHistory()
        self.state = InstanceState.STARTING
        self.failure = ""
        self.exit_code: int | None = None
        self.was_in_service = False
        self.route: routing.Instance | None = None
        self._plans = plans
        self._engine = engine
        self._directory = directory
        self._changed = changed
        self._output = output
        self._running: list[Running] = []
        self._pumps: list[LogPump] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def start(self) -> None:
        """Begin, in the instance's own thread."""
        self._thread.start()

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """SIGTERM to every container, after the grace SIGKILL, and leave nothing behind; waits for all of it."""
        self._stop.set()
        with self._lock:
            self.state = InstanceState.STOPPING
        threads = [threading.Thread(target=self._stop_one, args=(one, grace_seconds)) for one in self._running]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._thread.join()
        self._clean()

    def _stop_one(self, running: Running, grace_seconds: float) -> None:
        try:
            running.stop(grace_seconds)
        except LocalSageMakerError as error:  # the engine went away; what it still has is found by its labels
            self.failure = self.failure or str(error)

    def models_folder(self) -> Path:
        """Where the multi-model container's archives are unpacked."""
        return models_folder(self.variant.containers[0], self._directory)

    def base_directory(self) -> Path:
        """What stands for the first container's /opt/ml where there is no container."""
        return self._plans[0].base_directory

    def last_lines(self) -> str:
        """The end of what the containers wrote."""
        return "\n".join(filter(None, (pump.last_lines(10) for pump in self._pumps)))

    def reason(self) -> str:
        """Why it is out of service: what happened, its pings, its last lines."""
        lines = self.last_lines()
        return f"{self.failure}. Pings: {self.history}." + (f" Last lines of its log:\n{lines}" if lines else "")

    def _live(self) -> None:
        try:
            self._start_containers()
            if self._await_ready():
                self._watch()
        except LocalSageMakerError as error:
            self._end(str(error))
        except Exception as error:  # noqa: BLE001 - the engine's own errors end this instance, not the endpoint
            self._end(f"{type(error).__name__}: {error}")

    def _start_containers(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        for plan in self._plans:
            plan.base_directory.mkdir(parents=True, exist_ok=True)
            for mount in plan.mounts:
                mount.source.mkdir(parents=True, exist_ok=True)
            running = self._engine.start(plan)
            self._running.append(running)
            alone = len(self._plans) == 1
            file = self.log_file if alone else self.log_file.with_suffix("") / f"{plan.hostname}.log"
            file.parent.mkdir(parents=True, exist_ok=True)
            self._pumps.append(LogPump(running.logs(), file, _Shown(self._output)))
            if self._stop.is_set():
                running.stop(0)
        addresses = [running.address for running in self._running]
        containers = tuple(
            routing.Container(*address, hostname=plan.hostname)
            for address, plan in zip(addresses, self._plans, strict=True)
            if address is not None
        )
        self.route = routing.Instance(self.name, containers)

    def _await_ready(self) -> bool:
        limit = self.variant.startup_seconds
        begun = time.monotonic()
        while not self._stop.is_set():
            if self._has_ended(STARTING_PING_SECONDS):
                return False
            found = self._ping()
            if found == HEALTHY:
                self.was_in_service = True
                self._become(InstanceState.IN_SERVICE)
                return True
            if time.monotonic() - begun > limit:
                self._end(f"it did not answer /ping with status 200 within {limit:g} s")
                return False
        return False

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self._has_ended(PING_SECONDS):
                return
            if self._ping() != HEALTHY and self.history.failures_in_a_row >= UNHEALTHY_PINGS:
                self._end(f"{UNHEALTHY_PINGS} health checks in a row failed")
                return

    def _has_ended(self, within_seconds: float) -> bool:
        """Wait for an end of any container; one that stops ends them all."""
        for place, running in enumerate(self._running):
            with suppress(TimeoutError):
                self.exit_code = running.wait(within_seconds if place == 0 else 0)
                if not self._stop.is_set():
                    for pump in self._pumps[place : place + 1]:
                        pump.join(LOG_DRAIN_SECONDS)
                    self._end(f"the container {self._plans[place].hostname} ended with exit code {self.exit_code}")
                return True
        return self._stop.is_set()

    def _ping(self) -> str:
        """The worst answer of all containers."""
        found = HEALTHY
        for container in self.route.containers if self.route else ():
            found = ping(container.host, container.port)
            if found != HEALTHY:
                break
        self.history.add(found)
        return found

    def _end(self, failure: str) -> None:
        self.failure = failure
        self._become(InstanceState.OUT_OF_SERVICE)

    def _become(self, state: InstanceState) -> None:
        with self._lock:
            if self.state is InstanceState.STOPPING:
                return
            self.state = state
        self._changed()

    def _clean(self) -> None:
        # Those that share the first one's network go before it.
        for running in reversed(self._running):
            with suppress(LocalSageMakerError):  # the engine does not remove it now; it is found by its labels
                running.remove()
        for pump in self._pumps:
            pump.join(LOG_DRAIN_SECONDS)
        with suppress(OSError):  # what root wrote below /opt/ml is given back at the endpoint's end
            remove_tree(self._directory)


class _Shown:
    """Gives chunks to whoever shows them."""

    def __init__(self, output: Callable[[Chunk], None] | None) -> None:
        self._output = output

    def write(self, chunk: Chunk) -> None:
        """Show the chunk."""
        if self._output is not None:
            self._output(chunk)

    def end(self) -> None:
        """Nothing is held back."""

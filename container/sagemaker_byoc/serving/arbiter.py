"""gunicorn with a socket for each worker: workers sit in slots, and a reload replaces them one by one.

The master makes the slots' sockets and hands each to one worker. When a worker ends and others can answer, its socket
is hidden, so that nginx turns to the others at once; where it is alone, the socket stays. Either way the next worker of
the slot gets it, with the callers who were connected before anybody knew.
On SIGHUP a slot gets a second worker, which takes the slot's name over when its model is loaded; only then is the first
one told to finish. A second worker that cannot load changes nothing.
"""

import faulthandler
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.sock import UnixSocket
from gunicorn.workers.base import Worker

from sagemaker_byoc.memory import describe_out_of_memory, read_memory
from sagemaker_byoc.serving import forked_processes, users_signals, worker_end
from sagemaker_byoc.serving.deadlines import Limits
from sagemaker_byoc.serving.readiness import Readiness
from sagemaker_byoc.serving.slots import Slot, SlotSocket

POLL_SECONDS = 0.1
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
PAUSE_SECONDS = 3.0  # the master looks every second
ABORT_SECONDS = 3.0  # for a worker to write where it is, which a busy machine may not let it do at once
log = logging.getLogger(__name__)


@dataclass
class Seat:
    """What the master knows of one worker: its slot, its socket, and how far it has come."""

    slot: Slot
    generation: int
    socket: SlotSocket
    waits: bool  # its socket is published when its model is loaded, not before
    started: float
    loaded: bool = False
    retiring: bool = False
    aborted: float | None = None

    def publish(self) -> None:
        """In the worker, when its model is loaded."""
        if self.waits:
            self.socket.publish()


def pause_after(ends: int) -> float:
    """Seconds until a slot gets its next worker, when so many in turn have ended before they had loaded."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(ends - 1, 10))  # after days of them no number would hold it


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's application object: its settings, and what each worker runs."""

    def __init__(
        self,
        options: dict[str, Any],
        slots: list[Slot],
        readiness: Readiness,
        limits: Limits,
        load: Callable[["Seat"], Any],
        prepare: Callable[["Seat"], None],
    ) -> None:
        self.options = options
        self.slots = slots
        self.readiness = readiness
        self.limits = limits
        self.prepare = prepare
        self._load = load
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def sit(self, seat: Seat) -> None:
        """In the worker, right after the fork."""
        self.prepare(seat)
        self._seat = seat

    def load(self) -> Any:
        """In the worker, when gunicorn has set its signal handlers: SIGABRT is to show where each thread is."""
        faulthandler.disable()
        faulthandler.enable()
        forked_processes.keep_signals_apart(Worker.SIGNALS)
        users_signals.guard()
        return self._load(self._seat)

    def run(self) -> None:
        SlotArbiter(self).run()


class SlotArbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's master, with slots in place of a mere number of workers."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._generation = 0
        self._kept: dict[int, SlotSocket] = {}
        self._early_ends: dict[int, int] = {}
        self._not_before: dict[int, float] = {}
        self._reloads = False
        self._to_reload: deque[int] = deque()
        self._replacement: tuple[Any, Any] | None = None
        self._memory = read_memory()
        self._looked = self._resumed = time.monotonic()
        super().__init__(server)

    def setup(self, app: Any) -> None:
        super().setup(app)
        self.cfg.set("pre_fork", self._assign)
        self.cfg.set("post_fork", self._sit_down)
        self.cfg.set("child_exit", self._stand_up)
        self.cfg.set("worker_exit", self._end)

    def wait_for_signals(self, timeout: float = 1.0) -> Any:
        busy = self._reloads or self._early_ends
        return super().wait_for_signals(POLL_SECONDS if busy else timeout)

    def manage_workers(self) -> None:
        """A worker in every slot; where one ended before it had loaded, after a pause that grows."""
        for worker in self.WORKERS.values():
            worker.seat.loaded = worker.seat.loaded or self._server.readiness.is_loaded(worker.pid)
        taken = {worker.seat.slot.number for worker in self._staying()}
        for slot in self._server.slots:
            if slot.number not in taken and time.monotonic() >= self._not_before.get(slot.number, 0):
                self._fill(slot, waits=self._others_serve(slot))
        self._go_on_reloading()

    def reload(self) -> None:
        """SIGHUP: every slot gets a new worker, one after the other. The environment, and so the settings, stay."""
        log.info("reloading: each slot's worker is replaced when its successor has loaded the model")
        self._reloads = True
        self._to_reload = deque(slot.number for slot in self._server.slots)

    def murder_workers(self) -> None:
        """End workers whose main loop is silent, or whose model does not come: first with their stacks in the log."""
        limits = self._server.limits
        now = time.monotonic()
        if now - self._looked > PAUSE_SECONDS:
            self._resumed = now  # this master stood still too: the container was paused, and its workers with it
        self._looked = now
        for pid, worker in list(self.WORKERS.items()):
            try:
                silent = now - max(worker.tmp.last_update(), self._resumed)
            except (OSError, ValueError):
                continue
            loading = now - max(worker.seat.started, self._resumed)
            if worker.seat.loaded:
                reason = f"has not moved for {silent:.0f} s" if silent > limits.serving else ""
            else:
                late = loading > limits.loading and not self._server.readiness.has_failed(pid)
                reason = f"has not loaded its model in {loading:.0f} s (BYOC_MODEL_LOAD_TIMEOUT)" if late else ""
            if reason and worker.seat.aborted is None:
                log.error("the worker of slot %d %s; it is ended and started anew", worker.seat.slot.number, reason)
                worker.seat.aborted, worker.aborted = now, True
                self.kill_worker(pid, signal.SIGABRT)
            elif reason and now - worker.seat.aborted > ABORT_SECONDS:
                self.kill_worker(pid, signal.SIGKILL)

    def _fill(self, slot: Slot, waits: bool) -> Any:
        """Start a worker in a slot; returns it, as the master knows it."""
        self._generation += 1
        kept = self._kept.pop(slot.number, None)
        socket = kept or SlotSocket(slot, self._generation)
        if not waits:
            socket.publish()
        self._next = Seat(slot, self._generation, socket, waits, time.monotonic())
        return self.WORKERS.get(self.spawn_worker())

    def _others_serve(self, slot: Slot) -> bool:
        return any(worker.seat.loaded and worker.seat.slot != slot for worker in self._staying())

    def _assign(self, _arbiter: Any, worker: Any) -> None:
        """In the master, before the fork."""
        worker.seat = self._next

    def _sit_down(self, _arbiter: Any, worker: Any) -> None:
        """In the worker, after the fork: only its own slot's socket stays open, so that a dead worker's is closed."""
        seat = worker.seat
        for other in self.WORKERS.values():
            if other.seat.socket is not seat.socket:
                other.seat.socket.close()
        for kept in self._kept.values():
            kept.close()
        own = UnixSocket(str(seat.slot.path), self.cfg, self.log, fd=os.dup(seat.socket.socket.fileno()))
        worker.sockets = [*self.LISTENERS, own]
        self._server.sit(seat)

    def _end(self, _arbiter: Any, worker: Any) -> None:
        """In the worker, when its last request is answered; in the master too, for one that was found dead."""
        if worker.pid == os.getpid():
            worker_end.end()

    def _stand_up(self, _arbiter: Any, worker: Any) -> None:
        """In the master, after a worker's end."""
        seat = worker.seat
        number = seat.slot.number
        self._tell_want_of_memory(number)
        if self._replacement is not None and worker in self._replacement:
            self._end_replacement(worker, *self._replacement)
            return
        if seat.retiring:
            seat.socket.close()
            return
        if seat.loaded or self._server.readiness.is_loaded(worker.pid):
            self._early_ends.pop(number, None)
            self._not_before.pop(number, None)
        else:
            ends = self._early_ends[number] = self._early_ends.get(number, 0) + 1
            self._not_before[number] = time.monotonic() + pause_after(ends)
        if self._others_serve(seat.slot):
            seat.socket.hide()
        self._kept[number] = seat.socket

    def _tell_want_of_memory(self, number: int) -> None:
        memory = read_memory()
        reason = describe_out_of_memory(self._memory, memory)
        self._memory = memory
        if reason:
            log.error("the worker of slot %d ended: %s; fewer workers need less", number, reason)

    def _go_on_reloading(self) -> None:
        if self._replacement is not None:
            self._look_at_replacement(*self._replacement)
        if self._replacement is None:
            self._start_replacement()
        if self._reloads and self._replacement is None:
            self._end_reload()

    def _look_at_replacement(self, new: Any, old: Any) -> None:
        if new.seat.loaded:
            self._replacement = None
            old.seat.retiring = True
            self.kill_worker(old.pid, signal.SIGTERM)
        elif self._server.readiness.has_failed(new.pid):
            self._give_reload_up(new.seat.slot)
            new.seat.retiring = True
            self.kill_worker(new.pid, signal.SIGTERM)

    def _start_replacement(self) -> None:
        while self._to_reload:
            number = self._to_reload.popleft()
            old = next((worker for worker in self._staying() if worker.seat.slot.number == number), None)
            if old is not None:  # an empty slot is filled with a new worker anyway
                self._replacement = (self._fill(old.seat.slot, waits=True), old)
                return

    def _end_reload(self) -> None:
        """The reload is over as soon as every new worker has loaded, also one whose predecessor died meanwhile."""
        failed = [worker for worker in self._staying() if self._server.readiness.has_failed(worker.pid)]
        if failed:
            self._give_reload_up(failed[0].seat.slot)
        elif len([worker for worker in self._staying() if worker.seat.loaded]) == len(self._server.slots):
            self._reloads = False
            log.info("reloaded: every slot has a new worker")

    def _staying(self) -> list[Any]:
        """The workers that have not been told to finish: one that has may still be there when the next reload comes."""
        return [worker for worker in self.WORKERS.values() if not worker.seat.retiring]

    def _end_replacement(self, worker: Any, new: Any, old: Any) -> None:
        """One of the two workers of a slot that is being reloaded has ended."""
        self._replacement = None
        if worker is new:
            new.seat.socket.discard()
            self._give_reload_up(new.seat.slot)
        elif not new.seat.loaded:
            old.seat.socket.discard()  # its successor goes on loading, and publishes when it is done

    def _give_reload_up(self, slot: Slot) -> None:
        self._replacement = None
        self._reloads = False
        self._to_reload.clear()
        log.error("the reload is given up: the new worker of slot %d could not load; the old ones go on", slot.number)

"""All models of a multi-model endpoint, whichever worker is asked.

Each worker holds all models that are loaded. The worker that is asked to load one writes it into the registry, has
another load it, then itself and the rest, and only then answers; a worker that starts later loads what the registry
lists. What it has not loaded yet, or what was put aside for want of memory, is loaded when it is asked for.

Source: "Build Your Own Container for SageMaker AI Multi-Model Endpoints" of the Amazon SageMaker developer guide.
"""

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from sagemaker_byoc.errors import (
    ByocError,
    DeadlineExceeded,
    HandlerError,
    MalformedBody,
    ModelAlreadyLoaded,
    ModelNotFound,
    ModelNotReady,
    NotEnoughMemory,
    UserCodeError,
)
from sagemaker_byoc.memory import MemoryReading, describe_out_of_memory, read_memory, unused_memory
from sagemaker_byoc.serving.exchange import Answer, Request
from sagemaker_byoc.serving.handlers import Handler
from sagemaker_byoc.serving.model_packages import ModelPackages
from sagemaker_byoc.serving.model_registry import ASIDE, LOADED, LOADING, ModelRecord, ModelRegistry
from sagemaker_byoc.serving.model_room import ModelRoom
from sagemaker_byoc.serving.model_store import Held, ModelStore, explain, is_out_of_memory, settings_for
from sagemaker_byoc.serving.peers import Message, Peers
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.serving.streams import Watched

TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
SUCCESSOR_SECONDS = 5.0
log = logging.getLogger(__name__)


class ManyModels:
    """What one worker does for all: load, list, unload and invoke."""

    joins_requests = False
    is_async = False
    handlers: Mapping[str, Handler] = MappingProxyType({})

    def __init__(self, settings: ServeSettings, registry: ModelRegistry, store: ModelStore) -> None:
        self._settings = settings
        self._registry = registry
        self._store = store
        self._peers = Peers(registry.folder, self._answer_peer)
        self._room = ModelRoom(settings, registry, store, self._peers)
        self._packages = ModelPackages(settings, registry.folder)
        self._lock = threading.Lock()
        self._loading: dict[str, Future[None]] = {}

    def begin(self, may_take_time: bool, ready: Callable[[], None]) -> None:
        """Join the other workers, and call `ready` when this one may be asked: at once, or if others answer meanwhile
        when the models that they have are here too, but after half of the time that loading may take in any case.
        """
        self._peers.listen()
        with self._registry.locked():  # it may be in the place of one that has died in the middle of something
            self._repair()
            self._peers.tell({"unlisted": True}, self._settings.timeout)
        if not (may_take_time and self.restore(self._settings.model_load_timeout / 2)):
            threading.Thread(target=self.restore, args=(math.inf,), name="model-restore", daemon=True).start()
        ready()

    def restore(self, seconds: float) -> bool:
        """Load what the registry lists, most recently used first; False if the time did not suffice."""
        deadline = time.monotonic() + seconds
        for record in reversed(self._registry.by_use()):
            if time.monotonic() > deadline:
                return False
            try:
                if record.state == LOADED:
                    self._load_again(record.name, but_not_aside=True)
            except ByocError as error:
                log.warning("model %s is not loaded again before it is asked for: %s", record.name, error)
        return True

    def listed(self) -> list[ModelRecord]:
        """The models that are loaded or put aside, in the order of names."""
        return [record for record in self._registry.records() if record.state != LOADING]

    def describe(self, name: str) -> ModelRecord:
        """Raises ModelNotFound."""
        record = self._registry.read(name)
        if record is None or record.state == LOADING:
            raise ModelNotFound(f"model {name!r} is not loaded.")
        return record

    def load(self, name: str, url: str) -> None:
        """Load a model in all workers.

        Raises ModelAlreadyLoaded, NotEnoughMemory, ModelNotFound or MalformedBody for a folder that cannot be one, and
        HandlerError or UserCodeError for what the user's code raises.
        """
        folder = self._folder(name, url)
        with self._registry.locked():
            self._repair()
            self._peers.wait_for(self._settings.workers - 1, SUCCESSOR_SECONDS)
            left, kills = unused_memory() or 0, read_memory().oom_kills or 0
            record = ModelRecord(name, str(folder), secrets.token_hex(8), LOADING, left, kills)
            if self._registry.read(name) is not None:
                raise ModelAlreadyLoaded(f"model {name!r} is loaded already.")
            self._provide_packages(record)
            self._room.make(self._room.needed(record) * (1 + self._peers.count()), record)
            self._registry.write(record)
            try:
                self._load_everywhere(record)
            except DeadlineExceeded:
                self._drop(name, wait=False)
                raise
            except BaseException:
                self._drop(name)
                raise
            self._registry.mark(record, LOADED)

    def unload(self, name: str) -> None:
        """Unload a model from all workers and give its memory back. Raises ModelNotFound, or DeadlineExceeded if
        requests still run in it.
        """
        with self._registry.locked():
            self._repair()
            self.describe(name)
            if not self._drop(name):
                raise DeadlineExceeded(
                    f"model {name!r} answers no new requests; {self._settings.timeout:g} s were not enough for those "
                    "that it is answering, so its memory is not given back yet."
                )
        log.info("model %s is unloaded", name)

    def invoke(self, request: Request) -> Answer:
        """One request to the model that its path or its header names. Raises ModelNotFound or NotEnoughMemory."""
        held = self._begin(request.target or self._named_in(request), request.deadline)
        streams = False
        try:
            answer = held.model.invoke(request)
            if not isinstance(answer.body, bytes):
                streams = True
                answer = replace(answer, body=Watched(answer.body, lambda _: self._store.end(held)))
        except HandlerError as error:
            if is_out_of_memory(error):
                raise NotEnoughMemory(f"memory did not suffice for this request: {error}") from error
            raise
        else:
            return answer
        finally:
            if not streams:
                self._store.end(held)

    def _begin(self, name: str, deadline: float) -> Held:
        for _ in range(3):  # between loading and using, another worker may want the memory
            held = self._store.begin(name)
            if held is not None:
                if self._registry.use(name):
                    return held
                self._store.end(held)
            self.describe(name)
            self._load_in_time(name, deadline)
        raise NotEnoughMemory(f"model {name!r} was put aside again before it could be used; memory is too short.")

    def _named_in(self, request: Request) -> str:
        named = request.headers.get(TARGET_MODEL, "")
        if not named:
            raise ModelNotFound(f"the request names no model; ask /models/NAME/invoke, or send {TARGET_MODEL}.")
        if self._registry.read(named) is None:
            return next((record.name for record in self.listed() if record.url == named.rstrip("/")), named)
        return named

    def _provide_packages(self, record: ModelRecord) -> None:
        settings = settings_for(self._settings, record)
        try:
            self._packages.provide(record.name, settings)
        except ByocError as error:
            raise explain(record.name, error, settings) from None

    def _folder(self, name: str, url: str) -> Path:
        root = self._settings.paths.models.resolve()
        folder = Path(url).resolve()
        if not folder.is_relative_to(root) or folder == root:
            log.error("model %s: url is %r; expected a folder below %s", name, url, root)
            raise MalformedBody(f"url of model {name!r} leads to no folder below the one for models.")
        if not folder.is_dir():
            log.error("model %s: url is %r, and there is no such folder", name, url)
            raise ModelNotFound(f"url of model {name!r} names a folder that is not there.")
        return folder

    def _load_everywhere(self, record: ModelRecord) -> None:
        """In one other worker first: an error of the code, or the size, is then known before the rest begin, and if
        that worker dies over it, this one is left to say so.
        """
        self._load_elsewhere(record, is_first=True)
        self._room.make(self._room.needed(record) * self._peers.count(), record)
        self._registry.note_size(record.name, self._store.load(record))
        self._load_elsewhere(record)
        self._room.make(0, record)

    def _load_elsewhere(self, record: ModelRecord, is_first: bool = False) -> None:
        before = read_memory()
        message = {"model": record.name, "seconds": self._settings.timeout}
        for reply in self._peers.tell(message, self._settings.model_load_timeout, 1 if is_first else None):
            if reply.is_late:
                raise DeadlineExceeded(
                    f"model {record.name!r} was not loaded within {self._settings.model_load_timeout:g} s "
                    "(BYOC_MODEL_LOAD_TIMEOUT)."
                )
            if reply.content is None:
                self._judge_loss(record, reply.pid, before, is_first)
            elif "error" in reply.content:
                raise _as_error(reply.content)
            else:
                self._registry.note_size(record.name, reply.content["size"])

    def _judge_loss(self, record: ModelRecord, pid: int, before: MemoryReading, is_first: bool) -> None:
        """A worker has ended while it loaded a model: for memory, over the model, or, where another worker has loaded
        it well, for reasons of its own. Then the one that takes its place loads what the registry lists.
        """
        reason = describe_out_of_memory(before, read_memory())
        if reason:
            self._room.note_too_large(record)
            raise NotEnoughMemory(f"worker {pid} ended while it loaded model {record.name!r}: {reason}")
        if is_first:
            raise HandlerError(f"worker {pid} ended while it loaded model {record.name!r}; the log says why.")
        log.warning("worker %d has ended while it loaded model %s; the next one will load it", pid, record.name)

    def _load_in_time(self, name: str, deadline: float) -> None:
        """Load a model here in a thread, which goes on when this request's time is over. Raises ModelNotReady then."""
        with self._lock:
            loading = self._loading.get(name)
            if loading is None:
                loading = self._loading[name] = Future()
                threading.Thread(target=self._load_for, args=(name, loading), name="model-load", daemon=True).start()
        try:
            loading.result(None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise ModelNotReady(f"model {name!r} is being loaded: it was put aside, or this worker is new") from None

    def _load_for(self, name: str, loading: Future[None]) -> None:
        failure: BaseException | None = None
        try:
            self._load_again(name)
        except BaseException as error:  # noqa: BLE001 - whoever waits is told
            failure = error
        with self._lock:
            del self._loading[name]
        if failure is None:
            loading.set_result(None)
        else:
            loading.set_exception(failure)

    def _load_again(self, name: str, but_not_aside: bool = False) -> None:
        """Load a model here that the registry lists."""
        with self._registry.locked():
            record = self.describe(name)
            if self._store.has(record) or (but_not_aside and record.state == ASIDE):
                return
            self._room.make(self._room.needed(record), record)
            self._registry.note_size(name, self._store.load(record))
            if record.state == ASIDE:
                self._registry.mark(record, LOADED)

    def _drop(self, name: str, wait: bool = True) -> bool:
        """Take a model out of the registry and out of all workers; False if requests in it go on.

        Without waiting, others do so when they are done with what they do.
        """
        self._registry.remove(name)
        here = self._store.unload(name, self._settings.timeout)
        if not wait:
            self._peers.tell({"model": name, "seconds": self._settings.timeout}, 0.1)
            return here
        return self._peers.have_unloaded(name, self._settings.timeout) and here

    def _repair(self) -> None:
        """A record that says `loading` while nobody holds the lock is of a worker that has died over it."""
        for record in self._registry.records():
            if record.state == LOADING:
                log.warning("model %s is not loaded: the worker that loaded it has ended", record.name)
                if (read_memory().oom_kills or 0) > record.kills:
                    self._room.note_too_large(record)
                self._drop(record.name)

    def _forget_unlisted(self) -> bool:
        """What a worker had removed from the registry when it died, before it could tell the others."""
        listed = {record.name for record in self._registry.records()}
        done = [self._store.unload(name, 0) for name in self._store.names() if name not in listed]
        return all(done)

    def _answer_peer(self, message: Message) -> Message:
        """Another worker, which holds the lock, has changed a record: do as it says."""
        if "taken" in message:
            return {"taken": self._store.taken}
        if "unlisted" in message:
            return {"done": self._forget_unlisted()}
        record = self._registry.read(message["model"])
        if record is None or record.state == ASIDE:
            return {"done": self._store.unload(message["model"], message["seconds"])}
        try:
            return {"size": self._store.load(record)}
        except ByocError as error:
            return {"error": type(error).__name__, "message": str(error), "status": error.status}


def _as_error(content: Message) -> ByocError:
    """What another worker has raised while it loaded."""
    for kind in (NotEnoughMemory, UserCodeError):
        if content["error"] == kind.__name__:
            return kind(content["message"])
    return HandlerError(content["message"], content["status"])

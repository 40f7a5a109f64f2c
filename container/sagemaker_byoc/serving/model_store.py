"""The models that one worker holds in its memory: load, use, unload."""

import contextlib
import ctypes
import gc
import importlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from sagemaker_byoc.errors import ByocError, HandlerError, NotEnoughMemory
from sagemaker_byoc.memory import held_memory
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.serving import users_signals
from sagemaker_byoc.serving.model import Model
from sagemaker_byoc.serving.model_code import ModelCode
from sagemaker_byoc.serving.model_registry import ModelRecord
from sagemaker_byoc.serving.place_names import hide_paths
from sagemaker_byoc.serving.settings import ServeSettings
from sagemaker_byoc.user_code import users_frames

ImportCode = Callable[[Path], ModuleType]
Loader = Callable[[ServeSettings, ImportCode], Model]
# What libraries say that have no error of their own for it: PyTorch on CPU, ONNX Runtime, CUDA.
_OUT_OF_MEMORY = ("can't allocate memory", "Failed to allocate memory", "out of memory", "bad_alloc")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelPaths(MLPaths):
    """The folders of an endpoint with many models, as one of them sees them."""

    folder: Path = Path()

    @property
    def model(self) -> Path:
        return self.folder


@dataclass(eq=False)
class Held:
    """One model in this worker's memory. `size`: bytes that it took, without the libraries that its code imports."""

    record: ModelRecord
    model: Model
    code: ModelCode | None
    size: int
    users: int = 0
    going: bool = False
    idle: threading.Condition = field(default_factory=threading.Condition)


class ModelStore:
    """The models of one worker, by name."""

    def __init__(self, settings: ServeSettings, load: Loader) -> None:
        self._settings = settings
        self._load = load
        self._held: dict[str, Held] = {}
        self._changing = threading.RLock()
        self._before = held_memory()

    @property
    def taken(self) -> int:
        """Bytes that this worker holds more than before its first model."""
        return max(0, held_memory() - self._before)

    def has(self, record: ModelRecord) -> bool:
        held = self._held.get(record.name)
        return held is not None and held.record.version == record.version

    def names(self) -> list[str]:
        return list(self._held)

    def begin(self, name: str) -> Held | None:
        """The model, which stays until `end`; None if it is not here, or is about to go."""
        held = self._held.get(name)
        if held is None:
            return None
        with held.idle:
            if held.going:
                return None
            held.users += 1
        return held

    def end(self, held: Held) -> None:
        with held.idle:
            held.users -= 1
            if held.going:
                held.idle.notify_all()

    def load(self, record: ModelRecord) -> int:
        """Load a model, unless it is here; returns the bytes that it takes.

        Raises NotEnoughMemory, or HandlerError or UserCodeError with what the user's code has raised.
        """
        with self._changing:
            if not self.has(record):
                self.unload(record.name, self._settings.timeout)
                self._held[record.name] = self._make_or_explain(record)
            return self._held[record.name].size

    def unload(self, name: str, seconds: float) -> bool:
        """Let a model go when the requests that it is answering are done, and give its memory back.

        False if they are not done after so many seconds; the model then stays.
        """
        with self._changing:
            if name not in self._held:
                return True
            if not _is_free(self._held[name], seconds):
                return False
            held = self._held.pop(name)
            held.model.close()
            if held.code is not None:
                held.code.forget()
            del held
            give_memory_back()
            return True

    def _make_or_explain(self, record: ModelRecord) -> Held:
        try:
            return self._make(record)
        except BaseException as error:  # noqa: BLE001 - sys.exit in a user's module must not end the thread unseen
            failure = explain(record.name, error, settings_for(self._settings, record))
        # Raised here, where nothing holds the trace any more, and with it what the model had allocated.
        give_memory_back()
        raise failure

    def _make(self, record: ModelRecord) -> Held:
        settings = settings_for(self._settings, record)
        importlib.invalidate_caches()  # another worker may have installed what the code imports
        started = time.monotonic()
        before = held_memory()
        code: ModelCode | None = None
        names = contextlib.ExitStack()

        def import_code(program: Path) -> ModuleType:
            nonlocal before, code
            code = ModelCode(program.parent)
            names.enter_context(code.plain_names())
            module = code.run(program)
            before = held_memory()  # the libraries that it imports stay when the model goes
            return module

        try:
            with names, users_signals.passed_over():
                model = self._load(settings, import_code)
        except BaseException:
            if code is not None:
                code.forget()
            raise
        size = max(0, held_memory() - before)
        log.info("model %s is loaded: %.1f s, %d MB", record.name, time.monotonic() - started, size >> 20)
        return Held(record, model, code, size)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, says that memory did not suffice, the GPU's included."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def settings_for(settings: ServeSettings, record: ModelRecord) -> ServeSettings:
    """The settings as one of many models sees them: with its own folder."""
    paths = settings.paths
    return replace(settings, paths=ModelPaths(paths.base, paths.image_code, Path(record.url)))


def explain(name: str, error: BaseException, settings: ServeSettings) -> ByocError:
    """The error that the caller is told for one that came while a model was loaded, without its trace; the log has it
    whole. `settings`: with the model's own folder.
    """
    if is_out_of_memory(error):
        return NotEnoughMemory(f"memory did not suffice for model {name!r}: {error}")
    if isinstance(error, ByocError):
        return _explain_ours(name, error, settings)
    frames = users_frames(error)
    reason = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    log.error("model %s could not be loaded: %s\n%s", name, reason, "".join(traceback.format_list(frames)))
    at = (frames[-1].filename, frames[-1].lineno) if frames else None
    if isinstance(error, SyntaxError) and error.filename:  # found before the first line ran
        at = (error.filename, error.lineno)
    place = f" ({Path(at[0]).name}, line {at[1]})" if at else ""
    return HandlerError(f"model {name!r} could not be loaded: {hide_paths(reason, settings)}{place}")


def _explain_ours(name: str, error: ByocError, settings: ServeSettings) -> ByocError:
    text = str(error)
    if repr(name) not in text:
        text = f"model {name!r} could not be loaded: {text}"
    log.error("%s", text)
    error.args = (hide_paths(text, settings),)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def give_memory_back() -> None:
    """What a model has left goes back to the system and to the GPU's driver, as far as nobody holds it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    with contextlib.suppress(AttributeError):  # a C library without it gives back by itself
        ctypes.CDLL(None).malloc_trim(0)


def _is_free(held: Held, seconds: float) -> bool:
    """Let no new request in and wait for those inside; False, and open again, if they take longer."""
    with held.idle:
        held.going = True
        if not held.idle.wait_for(lambda: held.users == 0, seconds):
            held.going = False
        return held.going

"""Loading in a thread of its own: what the worker serves, while it can already say that it is not ready."""

import logging
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sagemaker_byoc.serving import users_signals
from sagemaker_byoc.serving.readiness import Readiness

log = logging.getLogger(__name__)
_OWN = Path(__file__).parents[1]


@dataclass(frozen=True)
class Loading:
    """One thing to load: `load` does it, `fail` is told why it could not be, `publish` follows when it is there."""

    what: str
    load: Callable[[], None]
    fail: Callable[[str], None]
    publish: Callable[[], None]
    readiness: Readiness

    def start(self) -> None:
        """Begin; the thread marks this worker as loaded, or as failed."""
        threading.Thread(target=self._run, name="model-load", daemon=True).start()

    def _run(self) -> None:
        try:
            with users_signals.passed_over():
                self.load()
        except BaseException as error:  # noqa: BLE001 - sys.exit in a user's module must not end the thread unseen
            reason = "".join(traceback.format_exception_only(error)).strip()
            trace = _users_trace(error)
            hint = _hint(error)
            log.error("%s could not be loaded, /ping stays 503: %s%s\n%s", self.what, reason, hint, trace)  # noqa: TRY400
            self.fail(reason.splitlines()[-1])
            self.readiness.mark_failed(os.getpid())
        else:
            self.publish()
            self.readiness.mark_loaded(os.getpid())
            log.info("%s is loaded", self.what)


def _hint(error: BaseException) -> str:
    """What to do about a package that is not there."""
    cause = error.__cause__ or error
    if not isinstance(cause, ModuleNotFoundError):
        return ""
    return (
        f". If {cause.name} comes with a package, name the package in a requirements.txt beside the code: what it "
        "names is installed when the container starts, or, for the image's own code, by `byoc build`."
    )


def _users_trace(error: BaseException) -> str:
    """The trace from the user's first frame on, the cause where a function of theirs was wrapped."""
    shown = error.__cause__ or error
    frames = [f for f in traceback.extract_tb(shown.__traceback__) if _OWN not in Path(f.filename).parents]
    frames = [f for f in frames if not f.filename.startswith("<frozen importlib")]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(shown)) if frames else ""

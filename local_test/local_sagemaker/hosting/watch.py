"""Code that is edited while it is served: noticed within a quarter of a second, and given to the running container."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from local_sagemaker.archive import remove_tree
from local_sagemaker.code_folder import Snapshot, copy_code, look

if TYPE_CHECKING:
    from local_sagemaker.hosting.endpoint import Endpoint

LOOK_SECONDS = 0.25
# How long a model server may take to say that it heard the signal, before it is started anew.
HEARD_SECONDS = 5.0
HEARD = "reloading: "


@dataclass
class CodeWatch:
    """The user's code folder, and the copy of it that the container sees."""

    source: Path
    copy: Path
    _seen: Snapshot = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        self._seen = look(self.copy)  # what was edited since it was made is a change

    def has_changed(self) -> bool:
        """Whether the code is another than at the last call; the copy is brought up to date then."""
        seen = look(self.source)
        if seen == self._seen:
            return False
        self._seen = seen
        self._bring()
        return True

    def _bring(self) -> None:
        """Replace the copy's contents; the folder itself stays, for it is mounted."""
        fresh = copy_code(self.source, self.copy.with_name("code-new"))
        for old in self.copy.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.unlink()
        for new in fresh.iterdir():
            new.rename(self.copy / new.name)
        remove_tree(fresh)


def reload_workers(endpoint: Endpoint, heard_seconds: float = HEARD_SECONDS) -> bool:
    """Tell the model server to replace its workers one by one; False if it does not understand that.

    The image's server does so on SIGHUP, and says so. Another one ends, or ignores the signal.
    """
    before = endpoint.pump.last_lines(1000).count(HEARD)
    endpoint.running.kill(signal.SIGHUP)
    limit = time.monotonic() + heard_seconds
    while time.monotonic() < limit:
        if endpoint.pump.last_lines(1000).count(HEARD) > before:
            return True
        try:
            endpoint.running.wait(0.05)
        except TimeoutError:
            continue
        return False
    return False

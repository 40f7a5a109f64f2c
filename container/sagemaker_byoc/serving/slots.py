"""Worker slots: each has a socket of its own, so that nginx sees how busy each worker is.

A slot's socket is made by gunicorn's master and accepted on by one worker. It is published under the slot's name by a
rename, which is at once: until then nobody can find it, afterwards no connection finds the one before.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

BACKLOG = 2048


@dataclass(frozen=True)
class Slot:
    """One worker's place: its number and where its socket is found."""

    folder: Path
    number: int

    @property
    def path(self) -> Path:
        return self.folder / f"slot-{self.number}.sock"


class SlotSocket:
    """A listening socket of a slot, not found by anybody before `publish`."""

    def __init__(self, slot: Slot, generation: int) -> None:
        self.slot = slot
        self._hidden = slot.folder / f"slot-{slot.number}.{generation}.hidden"
        self._hidden.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(str(self._hidden))
        self._hidden.chmod(0o600)
        self.socket.listen(BACKLOG)

    def publish(self) -> None:
        """From now on connections to the slot come here. To be called once, by the master or by the worker."""
        if self._hidden.exists():
            os.replace(self._hidden, self.slot.path)  # noqa: PTH105 - as one step, also over the one before

    def hide(self) -> None:
        """From now on nobody finds it; who is connected already waits for the next worker that gets it."""
        if not self._hidden.exists():
            os.replace(self.slot.path, self._hidden)  # noqa: PTH105 - the way back

    def close(self) -> None:
        """Give this process's end up; a socket that was never published leaves nothing behind."""
        self.socket.close()

    def discard(self) -> None:
        """Close a socket that nobody will publish any more."""
        self.close()
        self._hidden.unlink(missing_ok=True)


def slots(folder: Path, workers: int) -> list[Slot]:
    """The slots of this many workers."""
    return [Slot(folder, number) for number in range(workers)]

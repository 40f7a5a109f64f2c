"""An event loop for every thread that asks for the current one, as a program's main thread has it.

Models load and predict in threads, where Python gives none: `asyncio.get_event_loop()` in a script that ran on a server
with a process for each request would raise. From Python 3.14 on it raises everywhere.
"""

import sys
from functools import cache
from pathlib import Path


def give_loops(folder: Path) -> None:
    """Where Python code in a folder, or in the packages in it, mentions asyncio; for others it is not imported."""
    files = (file for pattern in ("*.py", "*/*.py") for file in folder.glob(pattern) if file.is_file())
    if sys.version_info < (3, 14) and any(b"asyncio" in file.read_bytes() for file in files):
        _set_policy()


@cache
def _set_policy() -> None:
    import asyncio  # noqa: PLC0415 - most models need none of it

    class LoopForEachThread(asyncio.DefaultEventLoopPolicy):
        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            try:
                return super().get_event_loop()
            except RuntimeError:
                self.set_event_loop(self.new_event_loop())
                return super().get_event_loop()

    asyncio.set_event_loop_policy(LoopForEachThread())

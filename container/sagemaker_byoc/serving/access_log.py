"""One line of JSON a request, on this container's standard output.

nginx writes them. It can write them to a path only, and /dev/stdout cannot be opened where it is a socket, nor shared
where it is a file. So it writes into a pipe with a name, in blocks, and this thread passes the blocks on.
"""

import codecs
import os
import select
import threading
from pathlib import Path

BLOCK = 1 << 16
POLL_SECONDS = 0.5


class AccessLog:
    """A named pipe and the thread that empties it; `close` passes on what is still in it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        # For reading and writing: without a writer of its own it would end whenever nginx does.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """To be called when nginx has ended."""
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closing.is_set():
            select.select([self._pipe], [], [], POLL_SECONDS)
            self._pass_on()
        self._pass_on()
        os.close(self._pipe)

    def _pass_on(self) -> None:
        while True:
            try:
                block = os.read(self._pipe, BLOCK)
            except BlockingIOError:
                return
            # nginx copies what a caller has sent, also bytes that no reader of JSON takes.
            block = self._decoder.decode(block).encode()
            while block:
                try:
                    block = block[os.write(1, block) :]
                except OSError:
                    return  # nobody reads this container's output any more; requests matter more

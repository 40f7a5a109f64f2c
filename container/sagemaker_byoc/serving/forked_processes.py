"""Processes that the user's code forks: what a worker does at a signal is not for them.

A pool's `terminate` would wait for ever for a process that takes SIGTERM for the worker's own, or loses it because it
came while the process was being made.
"""

import os
import signal
import threading
from collections.abc import Collection

_held = threading.local()


def keep_signals_apart(numbers: Collection[signal.Signals]) -> None:
    """To be called once in a worker: what it forks from now on has the default for these signals from its first moment.

    Until that is so they are held back in the thread that forks.
    """

    def hold() -> None:
        _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def go_on() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)

    def forget() -> None:
        signal.set_wakeup_fd(-1)  # they are not to wake the worker's loop
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        go_on()

    os.register_at_fork(before=hold, after_in_parent=go_on, after_in_child=forget)

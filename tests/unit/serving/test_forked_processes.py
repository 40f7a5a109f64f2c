"""Processes that the user's code forks."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import os, signal, sys
    from sagemaker_byoc.serving.forked_processes import keep_signals_apart

    number = signal.Signals[sys.argv[1]]
    signal.signal(number, lambda *_: None)
    # Before anything else, as if somebody had sent it during the fork.
    os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), number))
    keep_signals_apart([number])
    child = os.fork()
    if not child:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.kill(os.getpid(), number)  # its own handler still takes it
    print(os.waitstatus_to_exitcode(status), number in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_that_comes_while_a_process_is_forked_ends_it(number: signal.Signals) -> None:
    """13.2, 22.1: a pool that is ended right after its start sends it then."""
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), number.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=dict(os.environ))
    assert ran.stdout.split() == [str(-number), "False"]

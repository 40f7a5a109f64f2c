"""The loop that a transform job runs in."""

import asyncio
import os
import signal

import pytest
from local_sagemaker.transform.event_loop import run_in_loop


def test_a_signal_is_heard_between_two_steps():
    """13.2, 23.1: amid a step a parser or a transport would take it for an error of its own."""
    heard, ended, amid = [], [], [False]

    def interrupt(*_):
        heard.append(amid[0])
        raise KeyboardInterrupt

    async def works():
        amid[0] = True
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            len(heard)
        amid[0] = False
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_in_loop(works())
        assert signal.getsignal(signal.SIGTERM) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (heard, ended) == ([False], [True])


def test_a_handler_that_raises_nothing_ends_nothing():
    """13.2."""
    heard = asyncio.Event()

    async def works():
        os.kill(os.getpid(), signal.SIGHUP)
        await heard.wait()
        return "done"

    before = signal.signal(signal.SIGHUP, lambda *_: heard.set())
    try:
        assert run_in_loop(works()) == "done"
    finally:
        signal.signal(signal.SIGHUP, before)

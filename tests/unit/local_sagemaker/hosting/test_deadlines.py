"""Deadlines of many requests on one timer: each expires at its own, and whoever has ended does not."""

import asyncio
import time

from local_sagemaker.hosting.deadlines import Deadlines

ENDED = {0, 1, 10, 11}


class One:
    """Notes when it expired."""

    def __init__(self):
        self.at = None
        self.expired = asyncio.Event()

    def expire(self):
        self.at = time.perf_counter()
        self.expired.set()


def test_each_expires_at_its_own_time_and_those_that_ended_never():
    """15.2."""

    async def work():
        deadlines = Deadlines()
        begun = []
        for number in range(20):
            one, now = One(), time.perf_counter()
            line = deadlines.begin(one, 0.1 if number % 2 else 0.3, now)
            begun.append((one, line, now, 0.1 if number % 2 else 0.3))
            if number in ENDED:
                del line.waiting[one]
            await asyncio.sleep(0.005)
        for place, (one, _, _, _) in enumerate(begun):
            if place not in ENDED:
                await one.expired.wait()
        return begun

    begun = asyncio.run(work())
    for place, (one, _, now, seconds) in enumerate(begun):
        if place in ENDED:
            assert one.at is None
        else:
            assert one.at - now >= seconds


def test_a_line_that_is_empty_is_forgotten_and_made_anew():
    """15.2."""

    async def work():
        deadlines = Deadlines()
        first, second = One(), One()
        deadlines.begin(first, 0.01, time.perf_counter())
        await first.expired.wait()
        deadlines.begin(second, 0.01, time.perf_counter())
        await second.expired.wait()
        return second.at

    assert asyncio.run(work()) is not None

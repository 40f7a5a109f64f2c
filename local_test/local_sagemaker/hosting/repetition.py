"""The same request many times over: who answered, how fast, and what failed."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.invocation import MARGIN_SECONDS, InvocationOptions

VARIANT_HEADER = "x-amzn-invoked-production-variant"


@dataclass(frozen=True)
class Repetition:
    """What many requests came to.

    Attributes:
        variants: how many each production variant answered.
        failures: how many were answered with each status that is no success; 0 is for no answer at all.
        milliseconds: the time that each request took, in ascending order.
        seconds: the time that all of them took.
    """

    variants: Mapping[str, int]
    failures: Mapping[int, int]
    milliseconds: Sequence[float]
    seconds: float

    def percentile(self, percent: float) -> float:
        """The time in milliseconds that so many of a hundred requests did not exceed."""
        return self.milliseconds[max(0, math.ceil(len(self.milliseconds) * percent / 100) - 1)]

    def describe(self) -> str:
        """Two lines for people."""
        count = len(self.milliseconds)
        shares = ", ".join(f"{name} {n} ({100 * n / count:.1f} %)" for name, n in sorted(self.variants.items()))
        failed = ", ".join(f"{n} with status {status or 'none'}" for status, n in sorted(self.failures.items()))
        return (
            f"{count} requests in {self.seconds:.2f} s, {count / self.seconds:.0f} a second: p50"
            f" {self.percentile(50):.1f} ms, p99 {self.percentile(99):.1f} ms; failed: {failed or 'none'}\n"
            f"answered by {shares or 'nobody'}"
        )


def send_many(
    url: str,
    endpoint: str,
    body: bytes,
    options: InvocationOptions,
    count: int,
    concurrency: int,
    timeout_seconds: float,
) -> Repetition:
    """Invoke an endpoint ``count`` times, ``concurrency`` at a time, over connections that are kept.

    Raises:
        UsageError: if nothing listens at ``url``.
    """
    variants: Counter[str] = Counter()
    failures: Counter[int] = Counter()
    address, headers = f"{url}/endpoints/{endpoint}/invocations", options.headers()
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    with (
        httpx.Client(timeout=timeout_seconds + MARGIN_SECONDS, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):

        def send(_: int) -> tuple[int, str | None, float]:
            began = time.perf_counter()
            try:
                answer = client.post(address, content=body, headers=headers)
            except httpx.TransportError:
                return 0, None, (time.perf_counter() - began) * 1e3
            return answer.status_code, answer.headers.get(VARIANT_HEADER), (time.perf_counter() - began) * 1e3

        began = time.perf_counter()
        outcomes = list(pool.map(send, range(count)))
        seconds = time.perf_counter() - began
    for status, variant, _ in outcomes:
        if variant is not None:
            variants[variant] += 1
        if not 200 <= status < 300:
            failures[status] += 1
    if failures[0] == count:
        raise UsageError(f"{url} cannot be reached", "expected an endpoint in service", "see `byoc endpoint ls`")
    return Repetition(variants, dict(failures), sorted(took for _, _, took in outcomes), seconds)

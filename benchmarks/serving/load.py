"""Requests by a closed loop: each connection sends the next one when its answer is there.

Whole answers are measured with wrk, streams by a client of our own. The client's own processor time is not counted.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

LUA = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """What clients saw: answers and failures in `seconds`; times in milliseconds."""

    requests: int
    failed: int
    seconds: float
    p50: float
    p99: float
    first_p50: float | None = None
    first_p99: float | None = None


def find_wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("wrk is not on PATH; on Debian and Ubuntu: apt-get install wrk")
    return found


def throughput(port: int, path: str, body: bytes, connections: int, seconds: float, host: str = "127.0.0.1") -> Load:
    """Send the same body over and over, for whole seconds."""
    with tempfile.NamedTemporaryFile(prefix="byoc-bench-") as file:
        file.write(body)
        file.flush()
        options = ["-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--timeout", "20s", "-s", str(LUA)]
        command = [find_wrk(), *options, f"http://{host}:{port}{path}"]
        environ = {**os.environ, "BENCH_BODY": file.name}
        ran = subprocess.run(command, env=environ, check=False, capture_output=True, text=True)
    if ran.returncode != 0:  # it could not connect at all
        return Load(0, 1, seconds, math.nan, math.nan)
    found = json.loads(ran.stdout.splitlines()[-1])
    good = found["requests"] - found["refused"]
    failed = found["refused"] + found["broken"] + found["late"]
    return Load(good, failed, found["seconds"], found["p50"] / 1e3, found["p99"] / 1e3)


@dataclass
class Streams:
    """The answers that a window's clients have read."""

    first: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    failed: int = 0


def streaming(port: int, path: str, body: bytes, connections: int, seconds: float) -> Load:
    """Read streamed answers, and time the first chunk and the last."""
    seen = Streams()
    began = time.perf_counter()
    asyncio.run(read_streams(port, path, body, connections, began + seconds, seen))
    took = time.perf_counter() - began
    if len(seen.total) < 2:
        return Load(len(seen.total), seen.failed, took, math.nan, math.nan, math.nan, math.nan)
    first, total = ([value * 1e3 for value in values] for values in (seen.first, seen.total))
    return Load(
        len(total), seen.failed, took, median(total), high(total), first_p50=median(first), first_p99=high(first)
    )


def high(values: list[float]) -> float:
    """The 99th percentile."""
    return quantiles(values, n=100, method="inclusive")[98]


async def read_streams(port: int, path: str, body: bytes, connections: int, until: float, seen: Streams) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    await asyncio.gather(*(one_after_another(port, head + body, until, seen) for _ in range(connections)))


async def one_after_another(port: int, request: bytes, until: float, seen: Streams) -> None:
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    while time.perf_counter() < until:
        try:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            begin = time.perf_counter()
            writer.write(request)
            first, stays = await asyncio.wait_for(read_answer(reader), 30)
            seen.first.append(first - begin)
            seen.total.append(time.perf_counter() - begin)
        except (OSError, ValueError, EOFError, TimeoutError):
            seen.failed += 1
            stays = False
            await asyncio.sleep(0.05)
        if not stays and writer is not None:
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[float, bool]:
    """When the body's first bytes came, and whether the connection stays. Raises ValueError for no 200."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError(head)
    stays = b"connection: close" not in head
    if b"transfer-encoding: chunked" in head:
        first = 0.0
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            first = first or time.perf_counter()
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
        return first, stays
    if b"content-length:" in head:
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(1)
        first = time.perf_counter()
        await reader.readexactly(length - 1)
        return first, stays
    await reader.readexactly(1)
    first = time.perf_counter()
    await reader.read()
    return first, False

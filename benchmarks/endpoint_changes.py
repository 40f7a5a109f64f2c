"""Whether an endpoint loses requests while its weights, its fleet and its number of instances change.

Sends ``--requests`` invocations to an endpoint that exists over ``--connections`` connections at once, runs the given
``byoc endpoint`` commands meanwhile, one after the other, and prints what was answered.

    python benchmarks/endpoint_changes.py digits --change "weights blue=5 green=5" --change "update --config c2"
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import subprocess
import sys
import time
from collections import Counter

import aiohttp


async def _send(session: aiohttp.ClientSession, url: str, body: bytes, counts: Counter[str], left: list[int]) -> None:
    headers = {"Content-Type": "application/json"}
    while left[0] > 0:
        left[0] -= 1
        try:
            async with session.post(url, data=body, headers=headers) as answer:
                await answer.read()
                variant = answer.headers.get("x-amzn-invoked-production-variant", "")
                counts[f"{answer.status} {variant}".strip()] += 1
        except aiohttp.ClientError as error:
            counts[type(error).__name__] += 1


async def _change(commands: list[list[str]], left: list[int], more: int) -> list[tuple[str, int, float]]:
    found = []
    for command in commands:
        begun = time.monotonic()
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.returncode is None:
            left[0] = max(left[0], more)  # requests are under way as long as anything changes
            await asyncio.wait([asyncio.ensure_future(process.wait())], timeout=0.05)
        found.append((shlex.join(command[2:]), process.returncode, time.monotonic() - begun))
    return found


async def _run(arguments: argparse.Namespace, url: str) -> dict[str, object]:
    commands = [
        ["byoc", "endpoint", *shlex.split(change), "--project", arguments.project] for change in arguments.changes
    ]
    counts: Counter[str] = Counter()
    left = [arguments.requests]
    connector = aiohttp.TCPConnector(limit=arguments.connections)
    begun = time.monotonic()
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=70)) as session:
        body = arguments.body.encode()
        senders = [_send(session, url, body, counts, left) for _ in range(arguments.connections)]
        changing = asyncio.ensure_future(_change(commands, left, arguments.connections * 2))
        while not changing.done() or left[0] > 0:
            await asyncio.gather(*(_send(session, url, body, counts, left) for _ in senders))
            await asyncio.sleep(0)
    for sender in senders:
        sender.close()
    seconds = time.monotonic() - begun
    total = sum(counts.values())
    answered = sum(count for kind, count in counts.items() if kind.startswith("200"))
    return {
        "requests": total,
        "lost": total - answered,
        "seconds": round(seconds, 1),
        "by_kind": dict(counts.most_common()),
        "changes": [(change, code, round(took, 1)) for change, code, took in changing.result()],
    }


def main() -> int:
    """Exit code 1 if a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("--change", dest="changes", action="append", default=[])
    parser.add_argument("--project", default=".")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--body", default="[[0]]")
    arguments = parser.parse_args()
    describe = ["byoc", "endpoint", "describe", arguments.endpoint, "--project", arguments.project, "--json"]
    described = json.loads(subprocess.run(describe, check=True, capture_output=True, text=True).stdout)
    url = f"{described['Local']['Url']}/endpoints/{arguments.endpoint}/invocations"
    found = asyncio.run(_run(arguments, url))
    print(json.dumps(found, indent=2))
    return 1 if found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Model containers as asyncio servers of the test's own process, which answer as a test says."""

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field

from local_sagemaker.hosting.routing import Container, Instance


@dataclass(frozen=True)
class Asked:
    """One request as a container got it; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader

    async def left(self):
        """Wait until the caller has closed the connection."""
        await self.reader.read()


@dataclass
class FakeContainer:
    """A container's port, and what it was asked."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    connections: int = 0

    def instance(self, name="blue/1"):
        return Instance(name, (Container("127.0.0.1", self.port),))


def answer(body=b"ok", status=200, **headers):
    """The bytes of an answer; `content_type="text/csv"` becomes a header."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def echo(asked, writer):
    writer.write(answer(asked.body, content_type=asked.headers.get("content-type", "none")))


def always(data):
    async def handler(asked, writer):
        writer.write(data)

    return handler


class Containers:
    """A thread with an event loop for all containers of a test."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._servers = {}

    def start(self, handler=echo):
        """A container whose ``handler(asked, writer)`` is awaited for each request."""
        return self.call(self._start(handler))

    async def _start(self, handler):
        container = FakeContainer()

        async def serve(reader, writer):
            container.connections += 1
            container.writers.add(writer)
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                while True:
                    asked = await read_request(reader)
                    container.asked.append(asked)
                    await handler(asked, writer)
                    await writer.drain()
                    if writer.is_closing() or reader.at_eof():
                        break
            container.writers.discard(writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2048, limit=1 << 20)
        container.port = server.sockets[0].getsockname()[1]
        self._servers[container.port] = server
        return container

    def kill(self, container):
        """No more connections, and those there are end as when the process is killed."""

        async def work():
            server = self._servers.pop(container.port)
            server.close()
            for writer in list(container.writers):
                writer.transport.abort()

        self.call(work())

    def hang_up(self, container):
        """Close the connections that are open, and go on listening."""

        async def work():
            for writer in list(container.writers):
                writer.close()

        self.call(work())

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def event(self):
        """An event of the containers' loop; ``set`` it with ``tell``."""
        return asyncio.Event()

    def tell(self, event):
        self.loop.call_soon_threadsafe(event.set)

    def close(self):
        async def work():
            for server in self._servers.values():
                server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.call(work())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def read_request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body, reader)

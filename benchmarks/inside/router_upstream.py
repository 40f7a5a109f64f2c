"""A container that costs next to nothing: one small answer to each request, after the seconds that it is given.

Prints its port. `python router_upstream.py SECONDS`.
"""

import asyncio
import sys
from typing import cast

import httptools
import uvloop

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n[0.5]"


class Connection(asyncio.Protocol):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self.seconds:
            asyncio.get_running_loop().call_later(self.seconds, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(ANSWER)


async def main() -> None:
    seconds = float(sys.argv[1])
    server = await asyncio.get_running_loop().create_server(lambda: Connection(seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())

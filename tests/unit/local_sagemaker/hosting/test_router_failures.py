"""Containers that die, hang up or cannot be reached, and clients that leave: who is hurt, and who is not."""

import asyncio
import json
import socket
import threading

from local_sagemaker.hosting.container_connection import ContainerPool
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.routing import Container, Instance, RoutingStrategy, Variant

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.containers import answer, echo

REQUEST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


def test_connections_to_a_container_are_used_again(one):
    """15.1."""
    endpoint, container = one()
    for _ in range(10):
        assert endpoint.post()[0] == 200
    assert container.connections == 1


def test_a_connection_that_the_container_closed_while_idle_hurts_nobody(containers, one):
    """15.1."""
    endpoint, container = one()
    for _ in range(20):
        assert endpoint.post()[0] == 200
        containers.hang_up(container)
    assert len(container.asked) == 20


def test_a_request_that_was_refused_unread_is_sent_again_once_read(one):
    """15.1."""
    # A server that answers one request, and closes the connection with the next one unread in its buffer: a reset.
    with socket.create_server(("127.0.0.1", 0)) as server:
        served = []

        def serve():
            for number in range(2):
                connection, _ = server.accept()
                with connection:
                    served.append(connection.recv(65536))
                    connection.sendall(answer(b"%d" % number))
                    if number == 0:
                        unread.wait(30)  # the second request lies in the buffer
                        wait_until(lambda: connection.recv(1, socket.MSG_PEEK), "it has come")  # noqa: B023

        unread = threading.Event()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        endpoint, _ = one()
        container_port = server.getsockname()[1]
        table = endpoint.router.table
        instance = Instance("raw", (Container("127.0.0.1", container_port),))
        endpoint.router.set_table(type(table)((Variant("blue", (instance,)),)))
        assert endpoint.post(body=b"a")[2] == b"0"
        unread.set()
        assert endpoint.post(body=b"b")[2] == b"1"
        thread.join(30)
    assert [data[-1:] for data in served] == [b"a", b"b"]


class Asker:
    """Asks a container, and can be awaited until the connection breaks."""

    over = False

    def __init__(self):
        self.broke = asyncio.get_running_loop().create_future()

    def connected(self, connection):
        connection.ask(self, REQUEST, b"", 0, in_parts=False)

    def broken(self, reason, unread):
        self.broke.set_result((reason, unread))


def test_a_connection_that_is_lost_before_it_can_be_used_is_told_at_once(monkeypatch):
    """15.1."""

    async def main():
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def lost_meanwhile(*arguments):
            transport, protocol = await connect(*arguments)
            transport.abort()
            for _ in range(10):  # turns of the loop, in which the connection learns of its end
                await asyncio.sleep(0)
            return transport, protocol

        monkeypatch.setattr(loop, "create_connection", lost_meanwhile)
        with socket.create_server(("127.0.0.1", 0)) as server:
            pool = ContainerPool(Container("127.0.0.1", server.getsockname()[1]), 1, 30.0)
            askers = [Asker(), Asker()]  # the second one waits in line for the one connection
            for asker in askers:
                pool.lease(asker)
            async with asyncio.timeout(30):
                return [await asker.broke for asker in askers]

    assert asyncio.run(main()) == [("the connection was closed at once", True)] * 2


def test_a_request_that_was_read_is_not_sent_again(one):
    """15.4."""
    first = []

    async def dies_with_the_second(asked, writer):
        first.append(asked)
        if len(first) == 2:
            writer.close()
        else:
            await echo(asked, writer)

    endpoint, container = one(dies_with_the_second)
    assert endpoint.post()[0] == 200
    status, _, body = endpoint.post()
    assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 0)
    assert len(container.asked) == 2
    assert endpoint.post()[0] == 200


def test_a_killed_container_fails_only_what_it_had_in_flight(containers, make_endpoint):
    """13.2, 15.4."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()
        writer.write(answer())

    doomed, other = containers.start(stuck), containers.start()
    variant = Variant("blue", (doomed.instance("d"), other.instance("o")), strategy=RoutingStrategy.RANDOM)
    endpoint = make_endpoint(variant, seed=1)
    with endpoint.connect() as client:
        while not doomed.asked:
            before = len(other.asked)
            client.sendall(REQUEST)
            wait_until(lambda: doomed.asked or len(other.asked) > before, "the request has arrived")  # noqa: B023
            if not doomed.asked:
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
        containers.kill(doomed)
        assert client.recv(4096).startswith(b"HTTP/1.1 424 ")
    for _ in range(30):
        assert endpoint.post()[0] == 200
    assert endpoint.metrics().model_errors == 1
    containers.tell(release)


def test_an_instance_that_cannot_be_reached_makes_the_endpoint_unavailable_and_counts_as_an_error(containers, one):
    """15.4, 20.8."""
    endpoint, container = one()
    containers.kill(container)
    status, headers, _ = endpoint.post()
    assert (status, headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailable")
    assert (endpoint.metrics().invocations, endpoint.metrics().errors_5xx) == (1, 1)


def test_a_container_that_accepts_no_connection_is_given_up_within_the_limit(make_endpoint):
    """14.4, 15.4."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        instance = Instance("full", (Container(*address),))
        endpoint = make_endpoint(Variant("blue", (instance,)), limits=InvocationLimits(connect_seconds=0.2))
        assert endpoint.post()[0] == 503
        for filler in fillers:
            filler.close()


def test_the_container_is_told_when_the_client_leaves(one):
    """15.2."""
    told = threading.Event()

    async def until_closed(asked, writer):
        await asked.left()
        told.set()

    endpoint, container = one(until_closed)
    with endpoint.connect() as client:
        client.sendall(REQUEST)
        wait_until(lambda: container.asked, "the request has arrived")
    assert told.wait(30)
    wait_until(lambda: endpoint.router.in_flight() == 0, "nothing is in flight")
    assert endpoint.metrics().model_errors == 0


def test_an_answer_that_is_not_http_is_a_model_error(one):
    """15.4."""

    async def babble(asked, writer):
        writer.write(b"hello\r\n\r\n")

    endpoint, _ = one(babble)
    assert endpoint.post()[0] == 424


def test_an_answer_over_the_limit_is_a_model_error(one):
    """15.3."""

    async def large(asked, writer):
        writer.write(answer(b"x" * 101))

    endpoint, _ = one(large, limits=InvocationLimits(payload_bytes=100))
    status, _, body = endpoint.post()
    assert status == 424
    assert "more than 100 bytes" in json.loads(body)["OriginalMessage"]


def test_stopping_lets_what_is_in_flight_end_and_takes_nothing_more(containers, one):
    """13.2."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()
        writer.write(answer(b"late"))

    endpoint, container = one(stuck)
    with endpoint.connect() as client, endpoint.connect() as idle:
        client.sendall(REQUEST)
        wait_until(lambda: container.asked, "the request has arrived")
        stopping = threading.Thread(target=endpoint.router.stop, args=(30,))
        stopping.start()
        assert idle.recv(10) == b""
        containers.tell(release)
        got = client.recv(4096)
        assert got.startswith(b"HTTP/1.1 200")
        assert b"Connection: close" in got
        stopping.join(30)
        assert not stopping.is_alive()


def test_stopping_does_not_wait_longer_than_its_limit(containers, one):
    """13.2."""
    release = containers.event()

    async def stuck(asked, writer):
        await release.wait()

    endpoint, container = one(stuck)
    with endpoint.connect() as client:
        client.sendall(REQUEST)
        wait_until(lambda: container.asked, "the request has arrived")
        endpoint.router.stop(0.1)
        assert client.recv(4096) == b""
    containers.tell(release)

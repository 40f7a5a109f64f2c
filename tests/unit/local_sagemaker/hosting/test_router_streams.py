"""Streamed answers: event streams for boto3, server-sent events for OpenAI's clients, and bidirectional streams."""

import json
import threading

import pytest
from botocore.exceptions import EventStreamError
from local_sagemaker.hosting.limits import InvocationLimits

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.containers import STREAM_HEAD, always, answer, chunk

END = b"0\r\n\r\n"


def read(stream):
    return b"".join(event["PayloadPart"]["Bytes"] for event in stream)


def test_boto3_reads_a_response_stream(one):
    """15.11, 15.12, 23.5."""
    endpoint, container = one(always(STREAM_HEAD + chunk(b"one ") + chunk(b"two") + END))
    found = endpoint.boto3().invoke_endpoint_with_response_stream(
        EndpointName="digits", Body=b"{}", ContentType="application/json", Accept="text/event-stream"
    )
    assert read(found["Body"]) == b"one two"
    assert (found["ContentType"], found["InvokedProductionVariant"]) == ("text/event-stream", "blue")
    asked = container.asked[0]
    assert (asked.path, asked.headers["accept"]) == ("/invocations", "text/event-stream")
    assert asked.headers["content-type"] == "application/json"


def test_a_part_arrives_before_the_next_one_is_made(containers, one):
    """15.11."""
    seen = containers.event()

    async def waits(asked, writer):
        writer.write(STREAM_HEAD + chunk(b"first"))
        await seen.wait()
        writer.write(chunk(b"second") + END)

    endpoint, _ = one(waits)
    found = endpoint.boto3().invoke_endpoint_with_response_stream(EndpointName="digits", Body=b"{}")
    events = iter(found["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"first"
    containers.tell(seen)
    assert next(events)["PayloadPart"]["Bytes"] == b"second"


def test_an_error_before_the_stream_is_a_model_error(one):
    """15.4, 15.12."""
    endpoint, _ = one(always(answer(b"no", 400)))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ModelError) as raised:
        client.invoke_endpoint_with_response_stream(EndpointName="digits", Body=b"{}")
    assert raised.value.response["OriginalStatusCode"] == 400


def test_a_stream_that_breaks_off_ends_with_a_model_stream_error(one):
    """15.12."""

    async def breaks(asked, writer):
        writer.write(STREAM_HEAD + chunk(b"half"))
        await writer.drain()
        writer.close()

    endpoint, _ = one(breaks)
    found = endpoint.boto3().invoke_endpoint_with_response_stream(EndpointName="digits", Body=b"{}")
    events = iter(found["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"half"
    with pytest.raises(EventStreamError, match="ModelStreamError"):
        next(events)
    assert endpoint.metrics().model_errors == 1


def test_a_stream_over_its_time_ends_with_a_model_stream_error(one):
    """15.12."""

    async def endless(asked, writer):
        writer.write(STREAM_HEAD + chunk(b"on and on"))
        await asked.left()

    endpoint, _ = one(endless, limits=InvocationLimits(stream_seconds=1.5))
    found = endpoint.boto3().invoke_endpoint_with_response_stream(EndpointName="digits", Body=b"{}")
    with pytest.raises(EventStreamError, match="did not end within"):
        read(found["Body"])


def test_a_session_cannot_be_opened_by_a_stream(one):
    """15.12."""
    endpoint, container = one()
    status, headers, _ = endpoint.post(
        "/endpoints/digits/invocations-response-stream", X_Amzn_SageMaker_Session_Id="NEW_SESSION"
    )
    assert (status, headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    assert not container.asked


def test_a_client_that_leaves_a_stream_ends_it(one):
    """15.12."""
    told = threading.Event()

    async def endless(asked, writer):
        writer.write(STREAM_HEAD + chunk(b"on and on"))
        await asked.left()
        told.set()

    endpoint, _ = one(endless)
    found = endpoint.boto3().invoke_endpoint_with_response_stream(EndpointName="digits", Body=b"{}")
    next(iter(found["Body"]))
    found["Body"].close()
    assert told.wait(30)
    wait_until(lambda: endpoint.router.in_flight() == 0, "nothing is in flight")


def test_a_client_that_does_not_read_holds_the_container_back(one):
    """15.11."""
    piece, pieces = b"x" * (1 << 18), 1024  # 256 MB
    sent = []

    async def torrent(asked, writer):
        writer.write(STREAM_HEAD)
        for _ in range(pieces):
            writer.write(chunk(piece))
            await writer.drain()
            sent.append(1)
        writer.write(END)

    endpoint, _ = one(torrent)
    with endpoint.connect() as client:
        client.sendall(
            b"POST /endpoints/digits/invocations-response-stream HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        )
        client.recv(100)
        stalls, before = 0, -1
        while stalls < 20:  # until nothing has moved for a while
            stalls = stalls + 1 if len(sent) == before else 0
            before = len(sent)
            threading.Event().wait(0.02)
        assert len(sent) < pieces / 4
        got = 0
        while len(sent) < pieces:
            got += len(client.recv(1 << 20))


def test_a_connection_that_waited_for_a_slow_client_is_used_again(one):
    """15.11."""
    body = b"x" * (8 << 20)
    endpoint, container = one(always(STREAM_HEAD + chunk(body) + END))
    path = "/endpoints/digits/openai/v1/chat/completions"
    for _ in range(3):
        with endpoint.connect() as client:
            client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            wait_until(endpoint.router.in_flight, "it is being answered")
            got = b""
            while not got.endswith(END):
                got += client.recv(1 << 16)
        assert got.count(b"x") >= len(body)
    assert container.connections == 1


def test_openais_clients_get_the_containers_own_stream(one):
    """15.13."""
    events = b'data: {"a": 1}\n\n', b"data: [DONE]\n\n"
    endpoint, container = one(always(STREAM_HEAD + chunk(events[0]) + chunk(events[1]) + END))
    status, headers, body = endpoint.post(
        "/endpoints/digits/openai/v1/chat/completions", b'{"stream": true}', Authorization="Bearer x"
    )
    assert (status, headers["Content-Type"], body) == (200, "text/event-stream", b"".join(events))
    assert container.asked[0].path == "/v1/chat/completions"
    assert "authorization" not in container.asked[0].headers


def test_openais_clients_get_the_containers_own_errors(one):
    """15.13."""
    error = json.dumps({"error": {"message": "no such model"}}).encode()
    endpoint, _ = one(always(answer(error, 404, content_type="application/json")))
    status, _, body = endpoint.post("/endpoints/digits/openai/v1/chat/completions")
    assert (status, body) == (404, error)


@pytest.fixture
def websocket_container(containers):
    """A WebSocket server that echoes, and the paths and headers it was asked with."""
    from websockets.asyncio.server import serve

    asked = []

    async def echo(connection):
        asked.append(connection.request)
        async for message in connection:
            await connection.send(message)

    async def start():
        return await serve(echo, "127.0.0.1", 0, max_size=None)

    server = containers.call(start())
    yield server.sockets[0].getsockname()[1], asked

    async def stop():
        server.close()
        await server.wait_closed()

    containers.call(stop())


def bidirectional(make_endpoint, port, **limits):
    from local_sagemaker.hosting.routing import Container, Instance, Variant

    instance = Instance("blue/1", (Container("127.0.0.1", port),))
    return make_endpoint(Variant("blue", (instance,)), limits=InvocationLimits(**limits))


def test_a_bidirectional_stream_passes_through(make_endpoint, websocket_container):
    """15.19, 15.20."""
    from websockets.sync.client import connect

    port, asked = websocket_container
    endpoint = bidirectional(make_endpoint, port)
    url = f"ws://127.0.0.1:{endpoint.port}/invocations-bidirectional-stream"
    with connect(url, additional_headers={"X-Amzn-SageMaker-Custom-Attributes": "a=b"}, max_size=None) as client:
        client.send("text")
        assert client.recv() == "text"
        large = bytes(range(256)) * 40_000
        client.send(large)
        assert client.recv() == large
        assert endpoint.router.in_flight() == 1
    wait_until(lambda: endpoint.router.in_flight() == 0, "the stream is over")
    assert asked[0].path == "/invocations-bidirectional-stream"
    assert asked[0].headers["X-Amzn-SageMaker-Custom-Attributes"] == "a=b"


def test_a_bidirectional_stream_has_the_path_that_the_client_chose(make_endpoint, websocket_container):
    """15.19."""
    from websockets.sync.client import connect

    port, asked = websocket_container
    endpoint = bidirectional(make_endpoint, port)
    chosen = {"X-Amzn-SageMaker-Model-Invocation-Path": "v1/speak", "X-Amzn-SageMaker-Model-Query-String": "voice=x"}
    url = f"ws://127.0.0.1:{endpoint.port}/endpoints/digits/invocations-bidirectional-stream"
    with connect(url, additional_headers=chosen) as client:
        client.send("text")
        assert client.recv() == "text"
    assert asked[0].path == "/v1/speak?voice=x"


def test_a_bidirectional_stream_is_closed_after_its_time(make_endpoint, websocket_container):
    """15.10, 15.21."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    port, _ = websocket_container
    endpoint = bidirectional(make_endpoint, port, bidirectional_seconds=1.5)
    with (
        connect(f"ws://127.0.0.1:{endpoint.port}/invocations-bidirectional-stream") as client,
        pytest.raises(ConnectionClosed),
    ):
        client.recv(timeout=30)


def test_a_bidirectional_stream_to_nobody_is_unavailable(containers, make_endpoint):
    """15.4, 15.19."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    container = containers.start()
    containers.kill(container)
    endpoint = bidirectional(make_endpoint, container.port)
    with pytest.raises(InvalidStatus, match="503"):
        connect(f"ws://127.0.0.1:{endpoint.port}/invocations-bidirectional-stream")
    assert endpoint.router.in_flight() == 0


@pytest.mark.parametrize("header", ["X-Amzn-SageMaker-Model-Invocation-Path", "X-Amzn-SageMaker-Model-Query-String"])
def test_a_path_that_would_be_more_than_a_path_is_refused(make_endpoint, websocket_container, header):
    """15.19."""
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    port, asked = websocket_container
    endpoint = bidirectional(make_endpoint, port)
    url = f"ws://127.0.0.1:{endpoint.port}/invocations-bidirectional-stream"
    with pytest.raises(InvalidStatus, match="400"):
        connect(url, additional_headers={header: "a HTTP/1.0"})
    assert not asked
    assert endpoint.router.in_flight() == 0

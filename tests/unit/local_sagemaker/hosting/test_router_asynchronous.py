"""Asynchronous invocations: accepted by the port, and sent on from a file with bounded memory."""

import contextlib
import io
import json
import resource
import subprocess
import sys
import textwrap

import pytest
from local_sagemaker.hosting.hooks import AsyncAccepted, Hooks
from local_sagemaker.hosting.invocation_errors import InvocationError
from local_sagemaker.hosting.router import Forward
from local_sagemaker.hosting.routing import RoutingTable, Variant

from tests.unit.local_sagemaker.hosting.containers import always, answer


@pytest.fixture
def queued():
    return []


@pytest.fixture
def asynchronous(containers, make_endpoint, queued):
    async def enqueue(invocation):
        queued.append(invocation)
        return AsyncAccepted("mine", "s3://bucket/out/mine.out", "s3://bucket/failed/mine.out")

    container = containers.start()
    table = RoutingTable((Variant("blue", (container.instance(),)),), asynchronous=True)
    return make_endpoint(table=table, hooks=Hooks(enqueue=enqueue))


def test_boto3_invokes_asynchronously(asynchronous, queued):
    """19.1, 23.5."""
    found = asynchronous.boto3().invoke_endpoint_async(
        EndpointName="digits",
        InputLocation="s3://bucket/in.csv",
        ContentType="text/csv",
        InferenceId="mine",
        RequestTTLSeconds=60,
    )
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (found["InferenceId"], found["OutputLocation"]) == ("mine", "s3://bucket/out/mine.out")
    assert found["FailureLocation"] == "s3://bucket/failed/mine.out"
    headers = queued[0].headers
    assert headers["x-amzn-sagemaker-inputlocation"] == "s3://bucket/in.csv"
    assert headers["x-amzn-sagemaker-content-type"] == "text/csv"
    assert headers["x-amzn-sagemaker-requestttlseconds"] == "60"


def test_an_inline_body_has_a_limit(asynchronous, queued):
    """19.1."""
    path = "/endpoints/digits/async-invocations"
    assert asynchronous.post(path, b"x" * 128_000)[0] == 202
    assert len(queued[0].body) == 128_000
    assert asynchronous.post(path, b"x" * 128_001)[0] == 413


def test_an_endpoint_in_real_time_takes_no_asynchronous_invocation(one):
    """19.5."""
    endpoint, _ = one()
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="not asynchronous"):
        client.invoke_endpoint_async(EndpointName="digits", InputLocation="s3://bucket/in.csv")


def test_a_queue_that_refuses_is_the_clients_answer(containers, make_endpoint):
    """19.1."""

    async def enqueue(invocation):
        raise InvocationError("ValidationError", 400, "Invalid InputLocation")

    table = RoutingTable((Variant("blue"),), asynchronous=True)
    endpoint = make_endpoint(table=table, hooks=Hooks(enqueue=enqueue))
    status, _, body = endpoint.post("/endpoints/digits/async-invocations")
    assert (status, json.loads(body)["Message"]) == (400, "Invalid InputLocation")


def test_a_turn_is_sent_to_a_container_and_answered_into_a_file(one, tmp_path):
    """19.2."""
    endpoint, container = one()
    (tmp_path / "in").write_bytes(b"1,2")
    out = io.BytesIO()
    found = endpoint.router.forward(Forward(tmp_path / "in", {"Content-Type": "text/csv"}), out)
    assert (found.status, found.content_type, found.variant, out.getvalue()) == (200, "text/csv", "blue", b"1,2")
    assert container.asked[0].path == "/invocations"


def test_a_containers_error_is_the_turns_answer(one):
    """19.4."""
    endpoint, container = one(always(answer(b"bad", 500)))
    out = io.BytesIO()
    assert endpoint.router.forward(Forward(b"x"), out).status == 500
    assert out.getvalue() == b"bad"
    assert len(container.asked) == 1


def test_a_turn_that_takes_too_long_is_a_model_error(one):
    """19.2."""

    async def silent(asked, writer):
        await asked.left()

    endpoint, _ = one(silent)
    with pytest.raises(InvocationError, match="timed out") as raised:
        endpoint.router.forward(Forward(b"x", seconds=0.2), io.BytesIO())
    assert raised.value.code == "ModelError"


def test_an_input_that_vanishes_is_an_error_of_the_file(one, tmp_path):
    """19.1."""
    endpoint, _ = one()
    with pytest.raises(FileNotFoundError):
        endpoint.router.forward(Forward(tmp_path / "none"), io.BytesIO())


ECHO = """
    import asyncio, sys
    async def serve(reader, writer):
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            left = int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0])
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % left)
            while left:
                data = await reader.read(min(left, 262144))
                left -= len(data)
                writer.write(data)
                await writer.drain()
    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
    asyncio.run(main())
"""


def test_a_large_input_passes_in_little_memory(make_endpoint, tmp_path):
    """15.10, 19.1."""
    from local_sagemaker.hosting.routing import Container, Instance

    size = 1 << 28
    source = tmp_path / "in"
    with source.open("wb") as file:
        file.truncate(size)
    command = [sys.executable, "-c", textwrap.dedent(ECHO)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, contextlib.ExitStack() as last:
        last.callback(process.kill)
        port = int(process.stdout.readline())
        endpoint = make_endpoint(Variant("blue", (Instance("b", (Container("127.0.0.1", port),)),)))
        endpoint.post()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open("/dev/null", "wb") as nowhere:  # noqa: PTH123
            assert endpoint.router.forward(Forward(source), nowhere).status == 200
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 * 1024  # kilobytes

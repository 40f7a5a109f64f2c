"""The router as boto3's sagemaker-runtime and curl meet it."""

import json

import pytest
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.routing import RoutingTable, Variant

from tests.unit.local_sagemaker.hosting.containers import STREAM_HEAD, always, answer, chunk


def test_boto3_invokes_an_endpoint_unmodified(one):
    """15.1, 15.8, 23.5."""
    endpoint, container = one()
    found = endpoint.boto3().invoke_endpoint(EndpointName="digits", Body=b"1,2", ContentType="text/csv")
    assert found["Body"].read() == b"1,2"
    assert (found["ContentType"], found["InvokedProductionVariant"]) == ("text/csv", "blue")
    assert (container.asked[0].method, container.asked[0].path) == ("POST", "/invocations")
    assert found["ResponseMetadata"]["RequestId"]


def test_only_the_headers_of_the_api_reach_the_container(one):
    """15.6, 15.7."""
    endpoint, container = one()
    endpoint.boto3().invoke_endpoint(
        EndpointName="digits",
        Body=b"x",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=7",
        InferenceId="mine-1",
        TargetVariant="blue",
    )
    assert set(container.asked[0].headers) == {
        "host",
        "content-length",
        "content-type",
        "accept",
        "x-amzn-sagemaker-custom-attributes",
        "x-amzn-sagemaker-inference-id",
    }


def test_only_the_headers_of_the_api_come_back(one):
    """15.8."""
    endpoint, _ = one(
        always(answer(b"1", content_type="text/csv", X_Amzn_SageMaker_Custom_Attributes="a=b", Server="x"))
    )
    _, headers, _ = endpoint.post()
    assert headers["X-Amzn-SageMaker-Custom-Attributes"] == "a=b"
    assert "server" not in {name.lower() for name in headers}


@pytest.mark.parametrize("status", [400, 415, 500, 503])
def test_a_containers_error_is_a_model_error_with_the_original_status(one, status):
    """15.4, 15.5."""
    endpoint, _ = one(always(answer(b"no such column", status)))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ModelError) as raised:
        client.invoke_endpoint(EndpointName="digits", Body=b"x")
    response = raised.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (status, "no such column")
    assert f"({status}) from primary" in response["Error"]["Message"]


def test_a_model_error_names_the_log_stream(containers, make_endpoint):
    """13.12, 15.4."""
    container = containers.start(always(answer(b"", 500)))
    endpoint = make_endpoint(Variant("blue", (container.instance(),), log_stream="arn:aws:logs:local:digits"))
    _, _, body = endpoint.post()
    assert json.loads(body)["LogStreamArn"] == "arn:aws:logs:local:digits"


def test_a_container_that_takes_too_long_is_a_model_error(one):
    """15.2, 26.6."""

    async def silent(asked, writer):
        await asked.left()

    endpoint, _ = one(silent, limits=InvocationLimits(invocation_seconds=0.2))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ModelError, match="timed out") as raised:
        client.invoke_endpoint(EndpointName="digits", Body=b"x")
    assert raised.value.response["OriginalStatusCode"] == 0
    assert endpoint.metrics().model_errors == 1


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused_before_a_container_sees_it(one, chunked):
    """15.3."""
    endpoint, container = one(limits=InvocationLimits(payload_bytes=1000))
    pieces = iter([b"x" * 600, b"x" * 600])
    status, headers, body = endpoint.post(body=pieces if chunked else b"x" * 1001)
    assert status == 413
    assert headers["x-amzn-ErrorType"] == "ValidationError"
    assert "exceeds the limit of 1000 bytes" in json.loads(body)["Message"]
    assert not container.asked


def test_a_body_at_the_limit_passes(one):
    """15.3."""
    endpoint, _ = one()
    body = bytes(range(256)) * 4096 * 25
    status, _, found = endpoint.post(body=body)
    assert (status, len(body)) == (200, 25 * 1024 * 1024)
    assert found == body


def test_a_chunked_body_reaches_the_container_whole(one):
    """15.1, 15.36."""
    endpoint, container = one()
    status, _, body = endpoint.post(body=iter([b"1,", b"2"]))
    assert (status, body) == (200, b"1,2")
    assert container.asked[0].headers["content-length"] == "3"


def test_a_client_that_awaits_100_continue_gets_it(one):
    """15.1."""
    endpoint, _ = one()
    with endpoint.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert client.recv(4096).endswith(b"\r\n\r\nabc")


def test_a_client_that_awaits_100_continue_is_told_at_once_that_its_body_is_too_large(one):
    """15.3."""
    endpoint, _ = one(limits=InvocationLimits(payload_bytes=2))
    with endpoint.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("header", "value", "member"),
    [
        ("X-Amzn-SageMaker-Target-Variant", "no_such", "targetVariant"),
        ("X-Amzn-SageMaker-Inference-Id", "x" * 65, "inferenceId"),
        ("X-Amzn-SageMaker-Custom-Attributes", "x" * 1025, "customAttributes"),
        ("X-Amzn-SageMaker-Custom-Attributes", "caf\xe9", "customAttributes"),
        ("X-Amzn-SageMaker-Session-Id", "a b", "sessionId"),
        ("Content-Type", "x" * 1025, "contentType"),
    ],
)
def test_a_header_that_breaks_its_rule_is_a_validation_error(one, header, value, member):
    """15.7."""
    endpoint, container = one()
    status, headers, body = endpoint.post(**{header: value})
    assert (status, headers["x-amzn-ErrorType"]) == (400, "ValidationError")
    assert f"at '{member}' failed to satisfy constraint" in json.loads(body)["Message"]
    assert not container.asked


def test_another_endpoints_name_is_not_found(one):
    """15.4."""
    endpoint, _ = one()
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match=r"Endpoint letters of account .* not found"):
        client.invoke_endpoint(EndpointName="letters", Body=b"x")


def test_curl_finds_ping_and_unknown_paths(one, make_endpoint):
    """14.2, 14.3."""
    endpoint, _ = one()
    empty = make_endpoint(Variant("blue"))
    assert endpoint.post("/ping")[0] == 200
    assert empty.post("/ping")[0] == 503
    assert endpoint.post("/nothing")[0] == 404


def test_a_query_string_changes_nothing_and_get_is_no_invocation(one):
    """15.1."""
    endpoint, container = one()
    assert endpoint.post("/invocations?now")[0] == 200
    assert container.asked[0].path == "/invocations"
    with endpoint.connect() as client:
        client.sendall(b"GET /invocations HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 405 ")


def test_an_endpoint_without_instances_is_unavailable(make_endpoint):
    """15.4."""
    client = make_endpoint(Variant("blue")).boto3()
    with pytest.raises(client.exceptions.ServiceUnavailable):
        client.invoke_endpoint(EndpointName="digits", Body=b"x")


def test_an_answer_that_breaks_off_is_a_model_error_and_not_half_an_answer(one):
    """15.4."""

    async def half(asked, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await writer.drain()
        writer.close()

    endpoint, _ = one(half)
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ModelError) as raised:
        client.invoke_endpoint(EndpointName="digits", Body=b"x")
    assert raised.value.response["OriginalStatusCode"] == 0


def test_an_answer_without_a_length_ends_with_its_connection(one):
    """15.1."""

    async def until_closed(asked, writer):
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/csv\r\n\r\n1,2")
        await writer.drain()
        writer.close()

    endpoint, _ = one(until_closed)
    assert endpoint.post()[2] == b"1,2"


def test_a_chunked_answer_is_passed_on_whole(one):
    """15.1."""
    endpoint, _ = one(always(STREAM_HEAD + chunk(b"ab") + chunk(b"c") + b"0\r\n\r\n"))
    assert endpoint.post()[2] == b"abc"


def test_requests_sent_ahead_are_answered_in_their_order(one):
    """15.1."""
    endpoint, _ = one()
    request = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n%04d"
    with endpoint.connect() as client:
        client.sendall(b"".join(request % number for number in range(200)))
        got = b""
        while got.count(b"HTTP/1.1 200") < 200 or not got.endswith(b"0199"):
            got += client.recv(65536)
    bodies = [part[-4:] for part in got.split(b"HTTP/1.1 200 OK")[1:]]
    assert bodies == [b"%04d" % number for number in range(200)]


def test_something_that_is_not_http_is_refused(one):
    """15.4."""
    endpoint, _ = one()
    with endpoint.connect() as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert client.recv(4096) == b""


def test_headers_without_end_are_refused(one):
    """15.7."""
    endpoint, _ = one()
    with endpoint.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.1\r\n" + b"X-Long: " + b"x" * 200_000)
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_an_http_1_0_client_is_answered_and_closed(one):
    """15.1."""
    endpoint, _ = one()
    with endpoint.connect() as client:
        client.sendall(b"POST /invocations HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")
        got = b""
        while data := client.recv(4096):
            got += data
    assert got.endswith(b"\r\n\r\nx")


def test_an_asynchronous_endpoint_refuses_an_invocation_in_real_time(containers, make_endpoint):
    """19.5."""
    container = containers.start()
    endpoint = make_endpoint(table=RoutingTable((Variant("blue", (container.instance(),)),), asynchronous=True))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="asynchronous"):
        client.invoke_endpoint(EndpointName="digits", Body=b"x")
    assert not container.asked

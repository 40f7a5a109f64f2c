"""Pipelines, containers asked by name, models loaded on demand, sessions and shadow variants."""

import asyncio
import json
from collections import Counter

import pytest
from local_sagemaker.hosting.hooks import Hooks
from local_sagemaker.hosting.invocation_errors import invalid
from local_sagemaker.hosting.limits import InvocationLimits
from local_sagemaker.hosting.routing import Container, Instance, InvocationMode, RoutingTable, Variant

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.containers import always, answer


def several(*made, names=("first", "second", "third")):
    return Instance("blue/1", tuple(Container("127.0.0.1", one.port, name) for one, name in zip(made, names)))  # noqa: B905


def adding(text, content_type):
    async def handler(asked, writer):
        writer.write(answer(asked.body + text, content_type=content_type))

    return handler


def test_a_pipeline_hands_body_and_content_type_from_container_to_container(containers, make_endpoint):
    """15.32."""
    made = [containers.start(adding(b"+1", "text/csv")), containers.start(adding(b"+2", "application/json"))]
    endpoint = make_endpoint(Variant("blue", (several(*made),), mode=InvocationMode.SERIAL))
    found = endpoint.boto3().invoke_endpoint(EndpointName="digits", Body=b"0", ContentType="text/plain")
    assert (found["Body"].read(), found["ContentType"]) == (b"0+1+2", "application/json")
    assert [one.asked[0].headers["content-type"] for one in made] == ["text/plain", "text/csv"]
    assert endpoint.metrics().invocations == 1


def test_a_pipelines_failure_names_its_container_and_ends_it(containers, make_endpoint):
    """15.32."""
    made = [containers.start(), containers.start(always(answer(b"bad", 500))), containers.start()]
    endpoint = make_endpoint(Variant("blue", (several(*made),), mode=InvocationMode.SERIAL))
    status, _, body = endpoint.post()
    assert (status, json.loads(body)["OriginalStatusCode"]) == (424, 500)
    assert "from second" in json.loads(body)["Message"]
    assert not made[2].asked


def test_a_pipelines_hop_has_a_limit_of_its_own(containers, make_endpoint):
    """15.32."""
    made = [containers.start(always(answer(b"x" * 101))), containers.start()]
    variant = Variant("blue", (several(*made),), mode=InvocationMode.SERIAL)
    endpoint = make_endpoint(variant, limits=InvocationLimits(hop_bytes=100))
    status, _, body = endpoint.post()
    assert status == 424
    assert "payload too large" in json.loads(body)["OriginalMessage"]
    assert "from first" in json.loads(body)["Message"]
    assert not made[1].asked


def test_a_container_is_asked_by_its_name(containers, make_endpoint):
    """15.33."""
    made = [containers.start(adding(b"+1", "text/csv")), containers.start(adding(b"+2", "text/csv"))]
    endpoint = make_endpoint(Variant("blue", (several(*made),), mode=InvocationMode.DIRECT))
    client = endpoint.boto3()
    for name, text in (("first", b"0+1"), ("second", b"0+2")):
        found = client.invoke_endpoint(EndpointName="digits", Body=b"0", TargetContainerHostname=name)
        assert found["Body"].read() == text


@pytest.mark.parametrize("named", [{}, {"TargetContainerHostname": "fourth"}])
def test_a_container_that_is_not_named_or_not_there_is_a_validation_error(containers, make_endpoint, named):
    """15.33."""
    endpoint = make_endpoint(Variant("blue", (several(containers.start()),), mode=InvocationMode.DIRECT))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="first"):
        client.invoke_endpoint(EndpointName="digits", Body=b"0", **named)
    assert endpoint.router.in_flight() == 0


@pytest.mark.parametrize(
    ("member", "value", "mode"),
    [
        ("TargetContainerHostname", "first", InvocationMode.SINGLE),
        ("TargetContainerHostname", "first", InvocationMode.SERIAL),
        ("InferenceComponentName", "one", InvocationMode.SINGLE),
        ("EnableExplanations", "`true`", InvocationMode.SINGLE),
    ],
)
def test_what_an_endpoint_of_this_kind_has_no_use_for_is_a_validation_error(
    containers, make_endpoint, member, value, mode
):
    """15.7, 15.33, 20.1, 21.3."""
    container = containers.start()
    client = make_endpoint(Variant("blue", (several(container),), mode=mode)).boto3()
    with pytest.raises(client.exceptions.ValidationError, match=r"^.*digits .*does not support .* header\.$"):
        client.invoke_endpoint(EndpointName="digits", Body=b"0", **{member: value})
    assert not container.asked


def test_an_endpoint_with_an_explainer_hands_its_container_what_a_request_overrides(containers, make_endpoint):
    """15.7, 21.3."""
    container = containers.start()
    endpoint = make_endpoint(Variant("blue", (several(container),), explained=True))
    endpoint.boto3().invoke_endpoint(EndpointName="digits", Body=b"0", EnableExplanations="`true`")
    assert container.asked[0].headers["x-amzn-sagemaker-enable-explanations"] == "`true`"


def multi_model(containers, make_endpoint, hooks, instances=1, handler=None, **limits):
    made = [containers.start(*([handler] if handler else [])) for _ in range(instances)]
    places = tuple(one.instance(f"i{number}") for number, one in enumerate(made))
    variant = Variant("blue", places, mode=InvocationMode.MULTI_MODEL)
    return make_endpoint(variant, hooks=hooks, limits=InvocationLimits(**limits)), made


def test_a_target_model_is_loaded_before_it_is_invoked(containers, make_endpoint):
    """15.27."""
    loaded = []

    async def load(instance, target):
        loaded.append((instance.name, target))
        return "0f3a"

    endpoint, (container,) = multi_model(containers, make_endpoint, Hooks(load_model=load))
    found = endpoint.boto3().invoke_endpoint(EndpointName="digits", Body=b"1", TargetModel="eu/m.tar.gz")
    assert found["Body"].read() == b"1"
    assert loaded == [("i0", "eu/m.tar.gz")]
    assert container.asked[0].path == "/models/0f3a/invoke"
    assert container.asked[0].headers["x-amzn-sagemaker-target-model"] == "eu/m.tar.gz"


def test_a_model_that_is_still_being_loaded_is_not_ready(containers, make_endpoint):
    """15.28."""
    begun, ended = [], []

    async def load(instance, target):
        begun.append((asyncio.get_running_loop(), asyncio.Event()))
        await begun[0][1].wait()
        ended.append(target)
        return "m"

    endpoint, _ = multi_model(containers, make_endpoint, Hooks(load_model=load), load_seconds=0.05)
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ModelNotReadyException):
        client.invoke_endpoint(EndpointName="digits", Body=b"1", TargetModel="m.tar.gz")
    loop, loaded = begun[0]
    loop.call_soon_threadsafe(loaded.set)
    wait_until(lambda: ended, "loading has gone on")


def test_a_model_that_was_unloaded_meanwhile_is_loaded_again(containers, make_endpoint):
    """15.24, 15.27, 15.28."""
    calls = []

    async def load(instance, target):
        calls.append("load")
        return "m"

    async def forget(instance, target, status):
        calls.append(status)

    answers = iter([answer(b"", 404), answer(b"ok")])

    async def handler(asked, writer):
        writer.write(next(answers))

    hooks = Hooks(load_model=load, forget_model=forget)
    endpoint, _ = multi_model(containers, make_endpoint, hooks, handler=handler)
    assert endpoint.post(X_Amzn_SageMaker_Target_Model="m.tar.gz")[::2] == (200, b"ok")
    assert calls == ["load", 404, "load"]


def test_a_model_that_is_not_there_is_what_the_loader_says(containers, make_endpoint):
    """15.28."""

    async def load(instance, target):
        raise invalid("Failed to download model data")

    endpoint, _ = multi_model(containers, make_endpoint, Hooks(load_model=load))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="Failed to download"):
        client.invoke_endpoint(EndpointName="digits", Body=b"1", TargetModel="none.tar.gz")
    assert endpoint.router.in_flight() == 0


def test_a_loader_that_fails_is_an_internal_failure(containers, make_endpoint):
    """15.4."""

    async def load(instance, target):
        raise RuntimeError("disk is full")

    endpoint, _ = multi_model(containers, make_endpoint, Hooks(load_model=load))
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.InternalFailure, match="disk is full"):
        client.invoke_endpoint(EndpointName="digits", Body=b"1", TargetModel="m.tar.gz")


def test_a_models_requests_go_to_the_instance_that_has_it(containers, make_endpoint):
    """15.28."""
    asked = {}

    async def load(instance, target):
        asked.setdefault(target, set()).add(instance.name)
        return "m"

    endpoint, _ = multi_model(containers, make_endpoint, Hooks(load_model=load), instances=3)
    for number in range(24):
        assert endpoint.post(X_Amzn_SageMaker_Target_Model=f"m{number % 8}")[0] == 200
    assert all(len(names) == 1 for names in asked.values())
    assert len(set.union(*asked.values())) > 1


def test_a_session_of_a_multi_model_endpoint_needs_its_target_model_too(containers, make_endpoint):
    """15.16, 15.27."""

    async def load(instance, target):
        return "m"

    handler = sessions(1, "X_Amzn_SageMaker_New_Session_Id")
    endpoint, _ = multi_model(containers, make_endpoint, Hooks(load_model=load), handler=handler)
    client = endpoint.boto3()
    client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="NEW_SESSION", TargetModel="m.tar.gz")
    assert client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="s1", TargetModel="m.tar.gz")
    with pytest.raises(client.exceptions.ValidationError, match="needs a target model header"):
        client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="s1")


def test_a_target_model_is_for_multi_model_endpoints_only(one):
    """15.27."""
    endpoint, _ = one()
    client = endpoint.boto3()
    with pytest.raises(client.exceptions.ValidationError, match="does not support target model header"):
        client.invoke_endpoint(EndpointName="digits", Body=b"1", TargetModel="m")


def sessions(number, header):
    """A container that opens session sN, and closes it when the body says so."""

    async def handler(asked, writer):
        headers = {}
        if asked.headers.get("x-amzn-sagemaker-session-id") == "NEW_SESSION":
            headers[header] = f"s{number}; Expires=2999-01-01T00:00:00Z"
        if asked.body == b"close":
            headers["X_Amzn_SageMaker_Closed_Session_Id"] = f"s{number}"
        writer.write(answer(b"%d" % number, **headers))

    return handler


@pytest.mark.parametrize("header", ["X_Amzn_SageMaker_New_Session_Id", "X_Amzn_SageMaker_Session_Id"])
def test_a_session_stays_on_its_instance_until_it_is_closed(containers, make_endpoint, header):
    """15.15, 15.16."""
    made = [containers.start(sessions(number, header)) for number in range(3)]
    variant = Variant("blue", tuple(one.instance(f"i{number}") for number, one in enumerate(made)))
    endpoint = make_endpoint(variant, seed=1)
    client = endpoint.boto3()
    opened = client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="NEW_SESSION")
    identity = opened["NewSessionId"].split(";")[0]
    instance = opened["Body"].read()
    for _ in range(10):
        found = client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId=identity)
        assert found["Body"].read() == instance
    closed = client.invoke_endpoint(EndpointName="digits", Body=b"close", SessionId=identity)
    assert closed["ClosedSessionId"] == identity
    with pytest.raises(client.exceptions.ValidationError, match="unknown, closed or expired"):
        client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId=identity)


def test_a_session_that_has_expired_is_a_validation_error(one):
    """15.16."""
    endpoint, _ = one(always(answer(b"", X_Amzn_SageMaker_New_Session_Id="old; Expires=2001-01-01T00:00:00Z")))
    client = endpoint.boto3()
    client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="NEW_SESSION")
    with pytest.raises(client.exceptions.ValidationError, match="expired"):
        client.invoke_endpoint(EndpointName="digits", Body=b"", SessionId="old")


def test_a_session_ends_with_its_instance(containers, make_endpoint):
    """15.16."""
    made = [containers.start(sessions(number, "X_Amzn_SageMaker_New_Session_Id")) for number in range(2)]
    endpoint = make_endpoint(Variant("blue", (made[0].instance("i0"),)))
    assert endpoint.post(X_Amzn_SageMaker_Session_Id="NEW_SESSION")[0] == 200
    endpoint.router.set_table(RoutingTable((Variant("blue", (made[1].instance("i1"),)),)))
    assert endpoint.post(X_Amzn_SageMaker_Session_Id="s0")[0] == 400


def test_a_shadow_variant_gets_its_share_and_its_answers_go_nowhere(containers, make_endpoint):
    """20.4."""
    blue, dark = containers.start(), containers.start(always(answer(b"dark", 500)))
    shadow = Variant("dark", (dark.instance("d"),), weight=1.0)
    table = RoutingTable((Variant("blue", (blue.instance("b"),), weight=4.0),), (shadow,))
    endpoint = make_endpoint(table=table, seed=1)
    statuses = Counter(endpoint.post(body=b"%d" % number)[::2] for number in range(200))
    assert statuses == {(200, b"%d" % number): 1 for number in range(200)}
    wait_until(lambda: endpoint.metrics("dark").invocations == len(dark.asked), "the copies are answered")
    assert 25 <= len(dark.asked) <= 75
    assert {one.body for one in dark.asked} < {one.body for one in blue.asked}
    assert endpoint.metrics("dark").model_errors == len(dark.asked)
    assert endpoint.metrics("blue").model_errors == 0


def test_a_shadow_variant_that_hangs_slows_nobody_and_is_left_out(containers, make_endpoint):
    """20.4."""

    async def hangs(asked, writer):
        await asked.left()

    blue, dark = containers.start(), containers.start(hangs)
    table = RoutingTable((Variant("blue", (blue.instance("b"),)),), (Variant("dark", (dark.instance("d"),)),))
    endpoint = make_endpoint(table=table, limits=InvocationLimits(shadows=3))
    for _ in range(20):
        assert endpoint.post()[0] == 200
    wait_until(lambda: endpoint.metrics("dark").left_out == 17, "copies are left out")
    assert endpoint.metrics("dark").in_flight == 3

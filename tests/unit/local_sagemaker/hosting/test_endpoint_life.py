"""An endpoint from CreateEndpoint to DeleteEndpoint, on containers that are servers of this process."""

import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_sagemaker.errors import EngineMissingError, UsageError, ValidationError
from local_sagemaker.hosting.alarms import Alarm, AlarmBook
from local_sagemaker.hosting.measurements import read_metrics
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.fake_engine import ROLE, FakeEndpoint, FakeEngine, callers, variant


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[FakeEndpoint]:
    made = FakeEndpoint(Workspace.of(tmp_path), FakeEngine())
    yield made
    made.delete()


def in_service(endpoint: FakeEndpoint, config: str = "one") -> None:
    endpoint.start(config)
    record = endpoint.wait("InService", "Failed")
    assert record.status == "InService", record.description


def test_an_endpoint_is_in_service_when_every_instance_answers_ping(endpoint):
    """14.3, 20.3, 23.2, 23.5."""
    endpoint.model("blue")
    endpoint.model("green")
    endpoint.config("one", variant("blue", weight=9, count=2), variant("green"))
    in_service(endpoint)
    described = endpoint.ask("DescribeEndpoint", EndpointName="digits")
    counts = {one["VariantName"]: one["CurrentInstanceCount"] for one in described["ProductionVariants"]}
    assert counts == {"blue": 2, "green": 1}
    assert described["ProductionVariants"][0]["CurrentWeight"] == 9
    assert "DataCaptureConfig" not in described
    assert endpoint.invoke(Target_Variant="green")[1]["by"] == "green"


def test_an_endpoint_whose_container_ends_fails_and_says_why(endpoint):
    """14.5."""
    endpoint.model("blue", EXIT="3")
    endpoint.config("one", variant("blue"))
    endpoint.start("one")
    reason = endpoint.wait("Failed").description["FailureReason"]
    assert "did not pass the ping health check" in reason
    assert "exit code 3" in reason
    assert "says hello" in reason


def test_an_endpoint_that_never_answers_ping_with_200_fails_with_the_history_of_pings(endpoint, monkeypatch):
    """14.5, 14.8. The platform's least limit is 60 s, so the test shortens it."""
    monkeypatch.setattr("local_sagemaker.hosting.blueprint.STARTUP_SECONDS", 4.0)
    endpoint.model("blue", PING="503")
    endpoint.config("one", variant("blue"))
    endpoint.start("one")
    reason = endpoint.wait("Failed").description["FailureReason"]
    assert "Pings: status 503" in reason


def test_new_weights_hold_for_the_next_request_and_lose_none(endpoint):
    """20.3."""
    endpoint.model("blue")
    endpoint.model("green")
    endpoint.config("one", variant("blue"), variant("green", weight=0))
    in_service(endpoint)
    with callers(endpoint) as answers:
        wait_until(lambda: len(answers) > 20, "answers")
        wanted = [{"VariantName": "blue", "DesiredWeight": 0}, {"VariantName": "green", "DesiredWeight": 3}]
        endpoint.ask("UpdateEndpointWeightsAndCapacities", EndpointName="digits", DesiredWeightsAndCapacities=wanted)
        described = endpoint.wait("InService").description
        begun = len(answers)
        wait_until(lambda: len(answers) > begun + 20, "more answers")
    assert {status for status, _ in answers} == {200}
    assert {name for _, name in answers[:20]} == {"blue"}
    # Each of the four callers had at most one request in flight.
    assert sum(name == "blue" for _, name in answers[begun:]) <= 4
    assert [one["CurrentWeight"] for one in described["ProductionVariants"]] == [0, 3]


def test_an_instance_that_leaves_answers_what_it_has_first(endpoint):
    """13.2."""
    endpoint.model("blue", DELAY="0.3")
    endpoint.config("one", variant("blue", count=2))
    in_service(endpoint)
    with callers(endpoint, 8) as answers:
        wait_until(lambda: len(answers) > 4, "answers")
        wanted = [{"VariantName": "blue", "DesiredInstanceCount": 1}]
        endpoint.ask("UpdateEndpointWeightsAndCapacities", EndpointName="digits", DesiredWeightsAndCapacities=wanted)
        endpoint.wait("InService")
        wait_until(lambda: len(endpoint.engine.living()) == 1, "one container is left")
    assert {status for status, _ in answers} == {200}
    assert not sum(one.cut_off for one in endpoint.engine.containers)


def test_a_variant_that_cannot_grow_keeps_what_it_has_and_says_why(endpoint, monkeypatch):
    """20.3, 23.2."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue"))
    in_service(endpoint)

    def refuse(plan):
        raise UsageError("there is no such image", "expected one", "build it")

    with monkeypatch.context() as patched:
        patched.setattr(endpoint.engine, "start", refuse)
        wanted = [{"VariantName": "blue", "DesiredInstanceCount": 2, "DesiredWeight": 3.0}]
        endpoint.ask("UpdateEndpointWeightsAndCapacities", EndpointName="digits", DesiredWeightsAndCapacities=wanted)
        record = endpoint.wait("InService")
    (described,) = record.description["ProductionVariants"]
    assert "there is no such image" in record.description["FailureReason"]
    assert (described["CurrentInstanceCount"], described["DesiredInstanceCount"]) == (1, 1)
    assert described["CurrentWeight"] == 3.0
    assert endpoint.invoke()[0] == 200
    endpoint.ask("UpdateEndpointWeightsAndCapacities", EndpointName="digits", DesiredWeightsAndCapacities=wanted)
    record = endpoint.wait("InService")
    assert record.description["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    assert "FailureReason" not in record.description


def test_a_dead_instance_is_replaced_and_noted(endpoint):
    """14.6."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue"))
    in_service(endpoint)
    endpoint.engine.living()[0].kill(9)
    wait_until(lambda: len(endpoint.engine.containers) == 2, "another container")
    wait_until(lambda: endpoint.invoke()[0] == 200, "answers again")
    assert "ended with exit code 137" in endpoint.events()
    assert endpoint.record().status == "InService"


def test_an_instance_that_fails_its_pings_is_replaced(endpoint, monkeypatch):
    """14.6."""
    monkeypatch.setattr("local_sagemaker.hosting.instance.PING_SECONDS", 0.1)
    endpoint.model("blue")
    endpoint.config("one", variant("blue"))
    in_service(endpoint)
    endpoint.engine.living()[0].says["PING"] = "500"
    wait_until(lambda: len(endpoint.engine.containers) == 2, "another container")
    assert "3 health checks in a row failed" in endpoint.events()


def update(endpoint: FakeEndpoint, config: str, deployment: dict | None = None, **more: object) -> None:
    given = {} if deployment is None else {"DeploymentConfig": deployment}
    endpoint.ask("UpdateEndpoint", EndpointName="digits", EndpointConfigName=config, **given, **more)


def shift(kind: str, wait: int = 0, **more: object) -> dict:
    routing = {"Type": kind, "WaitIntervalInSeconds": wait, **more}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 0}}


@pytest.mark.parametrize(
    "deployment",
    [
        None,
        shift("ALL_AT_ONCE"),
        shift("CANARY", CanarySize={"Type": "CAPACITY_PERCENT", "Value": 10}),
        shift("LINEAR", LinearStepSize={"Type": "CAPACITY_PERCENT", "Value": 50}),
        {
            "RollingUpdatePolicy": {
                "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
                "WaitIntervalInSeconds": 0,
            }
        },
    ],
    ids=["without", "all-at-once", "canary", "linear", "rolling"],
)
def test_an_update_replaces_the_fleet_without_losing_a_request(endpoint, deployment):
    """20.5."""
    endpoint.model("blue")
    endpoint.model("new")
    endpoint.config("one", variant("blue", count=2))
    endpoint.config("two", variant("blue", "new", count=2))
    in_service(endpoint)
    with callers(endpoint) as answers:
        update(endpoint, "two", deployment)
        described = endpoint.wait("InService").description
        begun = len(answers)
        wait_until(lambda: len(answers) > begun + 10, "more answers")
    assert {status for status, _ in answers} == {200}
    assert described["EndpointConfigName"] == "two"
    assert "PendingDeploymentSummary" not in described
    assert "FailureReason" not in described
    wait_until(lambda: not endpoint.engine.living("blue"), "the old fleet is gone")
    assert len(endpoint.engine.living("new")) == 2
    assert endpoint.invoke()[1]["by"] == "new"


def test_an_update_completes_though_its_configuration_is_deleted_meanwhile(endpoint):
    """20.5, 23.1: an endpoint configuration and a model may be deleted at any time."""
    endpoint.model("blue")
    endpoint.model("new")
    endpoint.config("one", variant("blue"))
    endpoint.config("two", variant("blue", "new"))
    in_service(endpoint)
    update(endpoint, "two", shift("ALL_AT_ONCE", 1))
    wait_until(lambda: "updating to two" in endpoint.events(), "the update has begun")
    endpoint.ask("DeleteEndpointConfig", EndpointConfigName="two")
    endpoint.ask("DeleteModel", ModelName="new")
    described = endpoint.wait("InService").description
    assert described["EndpointConfigName"] == "two"
    assert endpoint.invoke()[1]["by"] == "new"


def test_an_update_completes_where_captures_cannot_be_kept(endpoint):
    """20.5, 21.2."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue"))
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://captures/here",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    endpoint.config("two", variant("blue"), DataCaptureConfig=capture)
    in_service(endpoint)
    (endpoint.directory / "capture").write_text("a file where captures are to be kept")
    update(endpoint, "two")
    assert endpoint.wait("InService").description["EndpointConfigName"] == "two"
    assert endpoint.invoke()[0] == 200
    assert "data capture cannot begin" in endpoint.events()


def test_an_update_keeps_weights_and_counts_if_asked(endpoint):
    """23.2: RetainAllVariantProperties."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue", weight=7, count=2))
    endpoint.config("two", variant("blue", weight=1, count=1))
    in_service(endpoint)
    update(endpoint, "two", RetainAllVariantProperties=True)
    described = endpoint.wait("InService").description
    assert described["ProductionVariants"][0]["CurrentWeight"] == 7
    assert described["ProductionVariants"][0]["CurrentInstanceCount"] == 2


def test_an_update_to_a_fleet_that_does_not_start_is_rolled_back(endpoint):
    """20.5."""
    endpoint.model("blue")
    endpoint.model("broken", EXIT="1")
    endpoint.config("one", variant("blue"))
    endpoint.config("two", variant("blue", "broken"))
    in_service(endpoint)
    with callers(endpoint) as answers:
        update(endpoint, "two")
        described = endpoint.wait("InService").description
    assert {status for status, _ in answers} == {200}
    assert described["EndpointConfigName"] == "one"
    assert "exit code 1" in described["FailureReason"]


@pytest.mark.parametrize(
    ("alarm", "environment"),
    [
        (Alarm("bad", "error-rate", 0.2, window_seconds=5, requests=5), {"STATUS": "500"}),
        (Alarm("bad", "latency", 100, "p50", window_seconds=5, requests=5), {"DELAY": "0.2"}),
    ],
    ids=["errors", "latency"],
)
def test_an_alarm_of_the_new_fleet_gives_the_traffic_back(endpoint, alarm, environment):
    """20.5: AutoRollbackConfiguration."""
    AlarmBook.of(endpoint.workspace).put(alarm)
    endpoint.model("blue")
    endpoint.model("worse", **environment)
    endpoint.config("one", variant("blue"))
    endpoint.config("two", variant("blue", "worse"))
    in_service(endpoint)
    canary = shift("CANARY", 600, CanarySize={"Type": "CAPACITY_PERCENT", "Value": 50})
    with callers(endpoint) as answers:
        update(endpoint, "two", {**canary, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "bad"}]}})
        described = endpoint.wait("InService").description
        begun = len(answers)
        wait_until(lambda: len(answers) > begun + 10, "more answers")
    assert described["EndpointConfigName"] == "one"
    assert "alarm bad of variant blue" in described["FailureReason"]
    assert sum(status != 200 for status, _ in answers[begun:]) <= 4
    # What the new fleet answered was its own answer; the way back added no failure.
    assert {status for status, _ in answers} <= {200, 424}
    assert endpoint.invoke()[1]["by"] == "blue"


def test_an_endpoint_in_progress_is_not_updated(endpoint):
    """20.5."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue"))
    in_service(endpoint)
    update(endpoint, "one", shift("ALL_AT_ONCE", 600))
    with pytest.raises(ValidationError, match="Cannot update in-progress endpoint"):
        update(endpoint, "one")


def test_an_endpoint_that_is_started_again_goes_on_with_its_weights_counts_and_port(endpoint):
    """20.8."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue", weight=3))
    in_service(endpoint)
    for _ in range(5):
        endpoint.invoke()
    described, url = endpoint.record().description, endpoint.url
    endpoint.delete()
    described["ProductionVariants"][0]["DesiredWeight"] = 8
    endpoint.workspace.store.create(Kind.ENDPOINT, "digits", {}, {**described, "EndpointStatus": "Creating"})
    endpoint.run()
    assert endpoint.wait("InService").description["ProductionVariants"][0]["CurrentWeight"] == 8
    assert endpoint.url == url
    endpoint.invoke()
    endpoint.delete()
    assert {key: one.invocations for key, one in read_metrics(endpoint.directory).items()} == {("blue", "1"): 6}


def test_an_endpoint_that_is_deleted_leaves_no_container_and_no_record(endpoint):
    """13.2, 23.2."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue", count=2))
    in_service(endpoint)
    endpoint.delete()
    assert endpoint.engine.living() == []
    assert endpoint.workspace.store.find(Kind.ENDPOINT) == []
    assert not (endpoint.directory / "instances").exists()
    assert len(list((endpoint.directory / "logs" / "blue").iterdir())) == 2


def archive(endpoint: FakeEndpoint, key: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(key)
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder / "weights", "weights")
    endpoint.workspace.buckets.put(f"s3://bucket/models/{key}", path)


def test_an_engine_that_fails_while_an_instance_is_ended_leaves_no_traceback(endpoint, monkeypatch):
    """1.12, 20.3."""
    endpoint.model("blue")
    endpoint.config("one", variant("blue", count=2))
    in_service(endpoint)
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    def gone(*_):
        raise EngineMissingError("the engine does not answer", "expected it to", "start it")

    with monkeypatch.context() as patched:
        for container in endpoint.engine.containers:
            patched.setattr(container, "stop", gone)
            patched.setattr(container, "remove", gone)
        wanted = [{"VariantName": "blue", "DesiredInstanceCount": 1}]
        endpoint.ask("UpdateEndpointWeightsAndCapacities", EndpointName="digits", DesiredWeightsAndCapacities=wanted)
        endpoint.wait("InService")
        wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("end-")], "it is ended")
    assert raised == []
    assert endpoint.invoke()[0] == 200


def test_a_multi_model_container_loads_what_is_asked_for_and_unloads_when_memory_ends(endpoint, tmp_path):
    """15.23, 15.24, 15.26, 15.28."""
    for place in range(3):
        archive(endpoint, f"m{place}.tar.gz", tmp_path / f"m{place}")
    container = {
        "Image": "image",
        "Mode": "MultiModel",
        "ModelDataUrl": "s3://bucket/models/",
        "Environment": {"ANSWER": "many", "MODELS": "2"},
    }
    endpoint.ask("CreateModel", ModelName="many", PrimaryContainer=container, ExecutionRoleArn=ROLE)
    endpoint.config("one", variant("blue", "many"))
    in_service(endpoint)
    server = endpoint.engine.living()[0]
    assert server.says["SAGEMAKER_MULTI_MODEL"] == "true"
    for key in ("m0", "m1", "m0", "m2"):
        assert endpoint.invoke(Target_Model=f"{key}.tar.gz")[0] == 200
    assert len(server.loaded) == 2
    assert "has unloaded m1.tar.gz" in endpoint.events()
    folders = sorted(endpoint.directory.glob("instances/*/model-models/*/model/weights"))
    assert sorted(path.read_text() for path in folders) == ["m0.tar.gz", "m2.tar.gz"]
    status, answer, _ = endpoint.invoke(Target_Model="absent.tar.gz")
    assert status == 400
    assert "absent.tar.gz" in answer["Message"]


def test_an_asynchronous_endpoint_answers_into_the_bucket_and_refuses_to_answer_at_once(endpoint):
    """19.1, 19.2, 19.5, 23.5."""
    endpoint.model("blue")
    output = {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failed"}
    endpoint.config("one", variant("blue"), AsyncInferenceConfig={"OutputConfig": output})
    in_service(endpoint)
    buckets = endpoint.workspace.buckets
    buckets.put_bytes("s3://bucket/in.json", b"from the bucket")
    status, accepted, headers = endpoint.invoke(b"", "async-invocations", InputLocation="s3://bucket/in.json")
    assert status == 202
    assert accepted["InferenceId"]
    where = headers["x-amzn-sagemaker-outputlocation"]
    wait_until(lambda: buckets.exists(where), "the answer")
    assert b"from the bucket" in buckets.read_bytes(where)
    _, _, inline = endpoint.invoke(b"inline", "async-invocations")
    wait_until(lambda: buckets.exists(inline["x-amzn-sagemaker-outputlocation"]), "the answer to the inline body")
    assert endpoint.invoke()[0] == 400
    wait_until(lambda: not list((endpoint.directory / "async").glob("*.json")), "the queue is empty")


def test_a_failed_asynchronous_invocation_leaves_its_reason(endpoint):
    """19.4."""
    endpoint.model("blue", STATUS="500")
    output = {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failed"}
    endpoint.config("one", variant("blue"), AsyncInferenceConfig={"OutputConfig": output})
    in_service(endpoint)
    _, _, headers = endpoint.invoke(b"x", "async-invocations")
    where = headers["x-amzn-sagemaker-failurelocation"]
    wait_until(lambda: endpoint.workspace.buckets.exists(where), "the reason")
    assert b"(500)" in endpoint.workspace.buckets.read_bytes(where)
    assert not endpoint.workspace.buckets.exists(headers["x-amzn-sagemaker-outputlocation"])
    assert len(endpoint.engine.containers[0].asked) == 1


def test_an_asynchronous_invocation_is_asked_once_when_its_answer_cannot_be_kept(endpoint):
    """19.2, 19.4."""
    endpoint.model("blue")
    output = {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failed"}
    endpoint.config("one", variant("blue"), AsyncInferenceConfig={"OutputConfig": output})
    in_service(endpoint)
    endpoint.workspace.buckets.put_bytes("s3://bucket/out", b"an object where a folder would have to be")
    _, _, headers = endpoint.invoke(b"x", "async-invocations")
    where = headers["x-amzn-sagemaker-failurelocation"]
    wait_until(lambda: endpoint.workspace.buckets.exists(where), "the reason")
    assert b"would lie below an object" in endpoint.workspace.buckets.read_bytes(where)
    wait_until(lambda: not list((endpoint.directory / "async").glob("*.json")), "the queue is empty")
    assert len(endpoint.engine.containers[0].asked) == 1


def test_an_asynchronous_invocation_says_what_is_wrong_with_its_addresses(endpoint):
    """19.1, 19.4."""
    endpoint.model("blue")
    output = {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/failed"}
    endpoint.config("one", variant("blue"), AsyncInferenceConfig={"OutputConfig": output})
    in_service(endpoint)
    for wrong in ({"InputLocation": "https://bucket/in"}, {"InputLocation": "s3://in/x"}, {"Filename": "../x"}):
        body = b"" if "InputLocation" in wrong else b"x"
        status, answer, _ = endpoint.invoke(body, "async-invocations", **wrong)
        assert status == 400
        assert next(iter(wrong.values())) in answer["Message"]
    endpoint.workspace.buckets.put_bytes("s3://bucket/there.json", b"x")
    _, _, headers = endpoint.invoke(b"", "async-invocations", InputLocation="s3://bucket/absent.json")
    where = headers["x-amzn-sagemaker-failurelocation"]
    wait_until(lambda: endpoint.workspace.buckets.exists(where), "the reason")
    assert b"there is no such object" in endpoint.workspace.buckets.read_bytes(where)


def test_containers_of_a_pipeline_get_ports_of_their_own_and_hand_on_their_answers(endpoint):
    """15.30, 15.31, 15.32."""
    containers = [{"Image": "image", "Environment": {"ANSWER": name}} for name in ("first", "second")]
    endpoint.ask("CreateModel", ModelName="line", Containers=containers, ExecutionRoleArn=ROLE)
    endpoint.config("one", variant("blue", "line"))
    in_service(endpoint)
    first, second = endpoint.engine.living()
    assert (first.says["SAGEMAKER_BIND_TO_PORT"], second.says["SAGEMAKER_BIND_TO_PORT"]) == ("8080", "8081")
    assert first.says["SAGEMAKER_SAFE_PORT_RANGE"] == "23000-23499"
    assert second.plan.network == f"container:{first.name}"
    answer = endpoint.invoke(b"hello")[1]
    assert answer["by"] == "second"
    assert '"heard": "hello"' in answer["heard"]


def test_a_direct_invocation_asks_the_container_that_it_names(endpoint):
    """15.33."""
    containers = [
        {"Image": "image", "ContainerHostname": name, "Environment": {"ANSWER": name}} for name in ("left", "right")
    ]
    mode = {"Mode": "Direct"}
    endpoint.ask(
        "CreateModel", ModelName="two", Containers=containers, InferenceExecutionConfig=mode, ExecutionRoleArn=ROLE
    )
    endpoint.config("one", variant("blue", "two"))
    in_service(endpoint)
    assert endpoint.invoke(Target_Container_Hostname="right")[1]["by"] == "right"
    assert endpoint.invoke()[0] == 400


def test_a_shadow_variant_gets_copies_and_answers_nobody(endpoint):
    """20.4."""
    endpoint.model("blue")
    endpoint.model("dark")
    endpoint.config("one", variant("blue"), ShadowProductionVariants=[variant("dark")])
    in_service(endpoint)
    assert endpoint.invoke()[1]["by"] == "blue"
    wait_until(lambda: endpoint.engine.living("dark")[0].asked, "the copy")
    assert endpoint.record().description["ShadowProductionVariants"][0]["VariantName"] == "dark"

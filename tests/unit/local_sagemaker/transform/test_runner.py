"""A transform job from its request to its outputs, with containers that do as they should and others."""

import gzip
import json
import os
import signal
import threading
from collections import Counter

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.errors import TimedOutError
from local_sagemaker.state.records import Kind

from tests.unit.local_sagemaker.transform.conftest import FakeEngine, make_request, outputs, upper

ROWS = b"a,1\nb,2\nc,3\n"


def test_every_object_has_one_output_under_its_own_sub_key(transform):
    """15.38: <input>.out."""
    done = transform({"x.csv": ROWS, "deep/er/y.csv": b"d,4\n"}, split="Line")
    assert done.outputs == {"x.csv.out": b"A,1\nB,2\nC,3\n", "deep/er/y.csv.out": b"D,4\n"}
    assert (done.status, "FailureReason" in done.told) == ("Completed", False)
    assert done.told["TransformStartTime"] <= done.told["TransformEndTime"]


def test_the_container_is_told_that_it_is_a_batch_and_what_the_user_set(transform):
    """15.34."""
    done = transform(
        {"x": ROWS}, split="Line", MaxPayloadInMB=2, BatchStrategy="SingleRecord", MaxConcurrentTransforms=3,
        Environment={"OF_JOB": "yes"},
    )  # fmt: skip
    [plan] = done.engine.plans
    assert (plan.command, plan.image) == ("serve", "anybody/model:1")
    assert plan.environment == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
        "OF_MODEL": "yes",
        "OF_JOB": "yes",
    }


def test_the_container_is_not_told_what_the_user_did_not_set(transform):
    """15.34."""
    done = transform({"x": ROWS})
    assert done.engine.plans[0].environment == {"SAGEMAKER_BATCH": "true", "OF_MODEL": "yes"}


def test_content_type_and_accept_are_sent_as_headers(transform):
    """15.42."""
    [seen] = transform({"x": ROWS}, content_type="text/csv", accept="application/jsonlines").engine.seen
    assert (seen.headers["Content-Type"], seen.headers["Accept"]) == ("text/csv", "application/jsonlines")


def test_no_accept_is_sent_where_the_job_has_none(transform):
    """15.9, 15.42."""
    [seen] = transform({"x": ROWS}).engine.seen
    assert "Accept" not in seen.headers


def test_the_containers_parameters_hold_where_the_request_says_nothing(transform):
    """15.35."""
    offered = json.dumps({"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 8})
    done = transform({"x": ROWS}, split="Line", parameters=(200, offered.encode()))
    assert sorted(done.engine.bodies) == [b"a,1\n", b"b,2\n", b"c,3\n"]
    assert "MaxConcurrentTransforms=4, MaxPayloadInMB=8, BatchStrategy=SingleRecord" in done.lines


def test_the_request_wins_over_the_containers_parameters(transform):
    """15.35."""
    offered = json.dumps({"MaxConcurrentTransforms": 4, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 8})
    done = transform(
        {"x": ROWS}, split="Line", parameters=(200, offered.encode()), BatchStrategy="MultiRecord", MaxPayloadInMB=1
    )
    assert done.engine.bodies == [ROWS]
    assert "MaxConcurrentTransforms=4, MaxPayloadInMB=1, BatchStrategy=MultiRecord" in done.lines


@pytest.mark.parametrize(
    "parameters", [(404, b""), (500, b"oops"), (200, b"no JSON"), (200, b'{"MaxPayloadInMB": -1}')]
)
def test_defaults_hold_where_a_container_has_no_parameters(transform, parameters):
    """15.35: 1, MULTI_RECORD, 6."""
    done = transform({"x": ROWS}, parameters=parameters)
    assert "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MultiRecord" in done.lines


def test_parameters_that_are_too_much_for_an_instance_fail_the_job(transform):
    """15.36: the product is at most 100 MB, whoever asked for it."""
    offered = json.dumps({"MaxConcurrentTransforms": 20}).encode()
    with pytest.raises(Exception, match="MaxConcurrentTransforms 20 times MaxPayloadInMB 6 is more than 100 MB"):
        transform({"x": ROWS}, parameters=(200, offered))


def test_a_payload_without_limit_travels_in_pieces_and_the_answer_too(transform):
    """15.36: 0 is chunked."""
    data = b"0123456789abcdef\n" * 200_000
    done = transform({"x": data}, split="Line", MaxPayloadInMB=0)
    assert done.engine.seen[0].headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in done.engine.seen[0].headers
    assert done.outputs == {"x.out": data.upper()}


def test_a_payload_without_limit_is_sent_anew_after_a_failure(transform):
    """15.36, 15.39."""
    tries = []

    def once_unwell(seen):
        tries.append(seen)
        return (503, "text/plain", b"not now") if len(tries) == 1 else upper(seen)

    assert transform({"x": ROWS}, once_unwell, MaxPayloadInMB=0).outputs == {"x.out": b"A,1\nB,2\nC,3\n"}


def test_a_container_that_fails_and_then_answers_fails_nothing(transform):
    """15.39: three retries."""
    tries = []

    def unwell(seen):
        tries.append(seen)
        return None if len(tries) == 1 else (503, "text/plain", b"not now") if len(tries) < 4 else upper(seen)

    done = transform({"x": ROWS}, unwell)
    assert (len(tries), done.outputs) == (4, {"x.out": b"A,1\nB,2\nC,3\n"})


def test_every_record_has_its_own_retries(transform):
    """15.39: three for each, whatever went before over the same connection."""
    tries = Counter()

    def often_unwell(seen):
        tries[seen.body] += 1
        unwell = seen.body in {b"b,2\n", b"c,3\n"} and tries[seen.body] < 4
        return (503, "text/plain", b"not now") if unwell else upper(seen)

    done = transform({"x": ROWS + b"d,4\n"}, often_unwell, split="Line", BatchStrategy="SingleRecord")
    assert tries == {b"a,1\n": 1, b"b,2\n": 4, b"c,3\n": 4, b"d,4\n": 1}
    assert done.outputs == {"x.out": b"A,1\nB,2\nC,3\nD,4\n"}


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (2, 3)])
def test_retries_are_as_many_as_the_request_says(transform, retries, asked):
    """15.39."""
    done = transform(
        {"x": ROWS}, lambda _: (500, "text/plain", b"boom"), ModelClientConfig={"InvocationsMaxRetries": retries}
    )
    assert len(done.engine.seen) == asked
    assert done.status == "Failed"


def test_what_the_container_refuses_is_not_asked_again(transform):
    """15.5, 15.39: the request would be the same."""
    done = transform({"x": ROWS}, lambda _: (415, "text/plain", b"no CSV, please"))
    assert len(done.engine.seen) == 1
    assert done.told["FailureReason"] == (
        "ClientError: s3://bucket/in/x: record 1: the container answered with status 415: no CSV, please"
    )


def test_a_poisoned_record_fails_its_object_and_the_job_but_no_other_object(transform):
    """15.38."""

    def poisoned(seen):
        return (500, "text/plain", b"cannot divide") if b"poison" in seen.body else upper(seen)

    done = transform(
        {"bad": b"a\npoison\nc\n", "good": ROWS}, poisoned, split="Line", BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsMaxRetries": 1},
    )  # fmt: skip
    assert done.status == "Failed"
    assert done.told["FailureReason"] == (
        "AlgorithmError: s3://bucket/in/bad: record 2: the container answered with status 500: cannot divide "
        "(it was asked 2 times)"
    )
    assert done.outputs == {"good.out": b"A,1\nB,2\nC,3\n"}


def test_a_failed_job_says_how_many_objects_failed(transform):
    """15.38."""
    done = transform({"x": ROWS, "y": ROWS}, lambda _: (400, "text/plain", b""))
    assert done.told["FailureReason"].startswith("ClientError: s3://bucket/in/x (and 1 more failed): record 1")
    assert sum(line.startswith("FAILED s3://bucket/in/") for line in done.lines) == 2


def test_a_record_larger_than_the_payload_fails_its_object(transform):
    """15.36, 15.38."""
    done = transform({"x": b"a\n" + b"b" * (1 << 20) + b"\nc\n"}, split="Line", MaxPayloadInMB=1)
    assert done.told["FailureReason"] == (
        "ClientError: s3://bucket/in/x: record 2 is larger than MaxPayloadInMB allows, 1 MB"
    )
    assert done.outputs == {}


def test_a_container_that_does_not_answer_in_time_fails_the_object(transform):
    """15.39."""
    end = threading.Event()
    try:
        done = transform(
            {"x": ROWS}, lambda _: end.wait(60) and None,
            ModelClientConfig={"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0},
        )  # fmt: skip
    finally:
        end.set()
    assert "record 1: the container did not answer within 1 s (it was asked once)" in done.told["FailureReason"]


def test_a_container_that_ends_fails_the_job_with_its_exit_code_and_log(transform):
    """15.38."""
    engine = FakeEngine(None)

    def dying(_):
        threading.Thread(target=engine.running["algo-1"].die, args=(137,)).start()
        engine.running["algo-1"].wait(30)

    engine.answer = dying
    done = transform({"x": ROWS}, engine=engine)
    assert "the container ended with exit code 137" in done.told["FailureReason"]
    assert "hello from the model" in done.told["FailureReason"]


def test_as_many_requests_are_in_flight_as_agreed_and_no_more(transform):
    """15.35: MaxConcurrentTransforms."""
    barrier = threading.Barrier(4)

    def meets_three_others(seen):
        barrier.wait(60)
        return upper(seen)

    rows = b"".join(b"%d\n" % number for number in range(40))
    done = transform(
        {"x": rows}, meets_three_others, split="Line", BatchStrategy="SingleRecord", MaxConcurrentTransforms=4
    )
    assert done.engine.most_at_once["algo-1"] == 4
    assert done.outputs == {"x.out": rows}


def test_answers_are_put_in_the_order_of_the_records(transform):
    """15.38: whichever comes first."""
    last_came = threading.Event()

    def first_waits_for_the_last(seen):
        if seen.body == b"1\n":
            last_came.wait(60)
        elif seen.body == b"4\n":
            last_came.set()
        return upper(seen)

    done = transform(
        {"x": b"1\n2\n3\n4\n"}, first_waits_for_the_last, split="Line", BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=4,
    )  # fmt: skip
    assert done.outputs == {"x.out": b"1\n2\n3\n4\n"}


def test_small_objects_share_the_concurrent_requests(transform):
    """15.35."""
    barrier = threading.Barrier(3)

    def meets_two_others(seen):
        barrier.wait(60)
        return upper(seen)

    done = transform(dict.fromkeys("abc", ROWS), meets_two_others, MaxConcurrentTransforms=3)
    assert set(done.outputs) == {"a.out", "b.out", "c.out"}


def test_objects_are_spread_over_instances_by_key(transform):
    """15.41."""
    done = transform({name: name.encode() for name in "abcde"}, instances=2)
    assert {seen.body: seen.container for seen in done.engine.seen} == {
        b"a": "algo-1", b"b": "algo-2", b"c": "algo-1", b"d": "algo-2", b"e": "algo-1",
    }  # fmt: skip
    assert sorted(done.outputs) == ["a.out", "b.out", "c.out", "d.out", "e.out"]


def test_an_instance_without_an_object_is_not_started(transform):
    """15.41."""
    assert len(transform({"only": ROWS}, instances=5).engine.plans) == 1


def test_gzip_objects_are_unpacked_on_the_way(transform):
    """15.37: CompressionType."""
    done = transform({"x.gz": gzip.compress(ROWS)}, split="Line", compression="Gzip")
    assert done.outputs == {"x.gz.out": b"A,1\nB,2\nC,3\n"}


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(ROWS * 100)[:-12]], ids=["no gzip", "torn"])
def test_a_torn_gzip_object_fails_and_leaves_no_output(transform, data):
    """15.38."""
    done = transform({"x.gz": data, "y.gz": gzip.compress(ROWS)}, split="Line", compression="Gzip")
    assert done.told["FailureReason"].startswith("ClientError: s3://bucket/in/x.gz: cannot be read")
    assert list(done.outputs) == ["y.gz.out"]


def test_a_manifest_names_the_objects_and_their_outputs(transform, workspace):
    """23.6: ManifestFile."""
    manifest = json.dumps([{"prefix": "s3://bucket/in/"}, "x", "deep/y"]).encode()
    workspace.buckets.put_bytes("s3://bucket/manifest", manifest)
    done = transform({"x": b"x", "deep/y": b"y", "z": b"z"}, kind="ManifestFile", uri="s3://bucket/manifest")
    assert done.outputs == {"x.out": b"X", "deep/y.out": b"Y"}


@pytest.mark.parametrize(
    ("uri", "name"),
    [("s3://bucket/in/a/b.csv", "b.csv.out"), ("s3://bucket/in", "a/b.csv.out"), ("s3://bucket/in/a/b", "b.csv.out")],
)
def test_an_output_keeps_the_key_behind_the_prefix(transform, uri, name):
    """15.38."""
    assert list(transform({"a/b.csv": ROWS}, uri=uri).outputs) == [name]


def test_line_adds_the_newline_that_an_answer_lacks(transform):
    """15.37: AssembleWith Line."""
    done = transform(
        {"x": ROWS}, lambda seen: (200, "text/csv", seen.body.strip()), split="Line", assemble="Line",
        BatchStrategy="SingleRecord",
    )  # fmt: skip
    assert done.outputs == {"x.out": ROWS}


def test_without_line_answers_are_joined_as_they_come(transform):
    """15.37: AssembleWith None."""
    done = transform(
        {"x": ROWS}, lambda seen: (200, "text/csv", seen.body.strip()), split="Line", BatchStrategy="SingleRecord"
    )
    assert done.outputs == {"x.out": b"a,1b,2c,3"}


def test_several_containers_are_a_pipeline(transform):
    """15.32: the answer of one is the request of the next."""
    done = transform(
        {"x": ROWS}, lambda seen: (200, "text/csv", seen.container.encode() + b":" + seen.body), containers=3
    )
    assert done.outputs == {"x.out": b"algo-1-3:algo-1-2:algo-1-1:" + ROWS}


def test_an_empty_object_has_an_empty_output(transform):
    """15.38."""
    done = transform({"x": b"", "y": ROWS}, split="Line")
    assert done.outputs["x.out"] == b""
    assert len(done.engine.seen) == 1


def test_a_job_that_is_stopped_elsewhere_stops_its_containers_and_keeps_what_is_complete(transform, workspace):
    """23.1, 13.2: SIGTERM and 30 s."""
    end = threading.Event()

    def stops_the_job(seen):
        if seen.body == b"second":
            call(workspace, "StopTransformJob", {"TransformJobName": "job"})
            end.wait(60)
        return upper(seen)

    try:
        done = transform({"1": b"first", "2": b"second"}, stops_the_job)
    finally:
        end.set()
    assert (done.status, done.outputs) == ("Stopped", {"1.out": b"FIRST"})
    assert done.engine.stopped == [("algo-1", 30.0)]


def test_an_interrupted_job_is_stopped_and_leaves_no_half_output(transform, workspace):
    """23.1, 15.38: as Ctrl-C does."""

    def interrupt(line):
        if "MaxConcurrentTransforms" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transform({"x": ROWS}, report=interrupt)
    [record] = workspace.store.find(Kind.TRANSFORM_JOB)
    assert record.status == "Stopped"
    assert outputs(workspace) == {}
    assert not (workspace.directory_of(Kind.TRANSFORM_JOB, "job") / "partial").exists()


def test_a_container_that_is_never_ready_fails_the_job_with_the_reason(transform, workspace, monkeypatch):
    """14.5."""

    def never(*_):
        raise TimedOutError("the endpoint was not ready within 480 s")

    monkeypatch.setattr("local_sagemaker.transform.serving.wait_until_ready", never)
    done = transform({"x": ROWS})
    assert done.told["FailureReason"] == "AlgorithmError: the endpoint was not ready within 480 s"
    assert done.engine.seen == []


def test_the_containers_output_is_kept_in_the_jobs_folder(transform, workspace):
    """13.12."""
    transform({"x": ROWS})
    log = workspace.directory_of(Kind.TRANSFORM_JOB, "job") / "algo-1" / "logs.txt"
    assert log.read_text() == "hello from the model\n"


def test_containers_carry_the_jobs_labels(transform, workspace):
    """23.1: so that none is orphaned."""
    [plan] = transform({"x": ROWS}).engine.plans
    assert plan.labels == workspace.labels(Kind.TRANSFORM_JOB, "job")


def test_a_job_name_is_used_once(transform, workspace):
    """23.1."""
    transform({"x": ROWS})
    with pytest.raises(Exception, match="ResourceInUse"):
        call(workspace, "CreateTransformJob", make_request())


def test_filters_and_joins_are_done_on_the_way(transform):
    """15.40: with several requests at a time."""
    rows = b"".join(b"id%d,a%d,b\n" % (number, number) for number in range(50))
    done = transform(
        {"x.csv": rows}, split="Line", BatchStrategy="SingleRecord", MaxConcurrentTransforms=4,
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-2]"},
    )  # fmt: skip
    assert sorted(done.engine.bodies) == sorted(b"a%d,b\n" % number for number in range(50))
    assert done.outputs == {"x.csv.out": b"".join(b"id%d,A%d\n" % (number, number) for number in range(50))}


def test_large_answers_are_joined_in_the_order_of_the_records(transform):
    """15.38, 15.40: although that happens beside the requests."""
    rows = b"".join(b'{"id": %d}\n' % number for number in range(120_000))
    done = transform(
        {"x.jsonl": rows}, lambda seen: (200, "application/jsonlines", b"1\n" * seen.body.count(b"\n")), split="Line",
        content_type="application/jsonlines", MaxPayloadInMB=1, MaxConcurrentTransforms=2,
        DataProcessing={"JoinSource": "Input", "OutputFilter": "$.id"},
    )  # fmt: skip
    assert done.outputs == {"x.jsonl.out": b"".join(b"%d\n" % number for number in range(120_000))}
    assert len(done.engine.seen) == 2


def test_a_wrong_number_of_answers_fails_a_join(transform):
    """15.40."""
    done = transform(
        {"x": ROWS}, lambda _: (200, "text/csv", b"1\n2\n"), split="Line", DataProcessing={"JoinSource": "Input"}
    )
    assert done.told["FailureReason"].startswith(
        "AlgorithmError: s3://bucket/in/x: records 1 to 3: the container answered 2 records for 3"
    )
    assert done.outputs == {}


def test_json_objects_get_the_answer_as_a_member(transform):
    """15.40: a whole object is one document."""
    done = transform(
        {"x.json": b'{\n"id": 1}'}, lambda _: (200, "application/json", b'{"p": [1, 2]}'),
        content_type="application/json", assemble="Line", DataProcessing={"JoinSource": "Input"},
    )  # fmt: skip
    assert done.outputs == {"x.json.out": b'{"id":1,"SageMakerOutput":{"p":[1,2]}}\n'}


def test_a_connection_that_is_closed_after_each_answer_is_made_again(transform):
    """15.39: that is no failure."""
    asked = []

    def answers_and_closes(seen):
        asked.append(seen.body)
        return (200, "text/csv; close", seen.body)

    done = transform(
        {"x": ROWS}, answers_and_closes, split="Line", BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsMaxRetries": 0},
    )  # fmt: skip
    assert (done.outputs, len(asked)) == ({"x.out": ROWS}, 3)


def test_a_signal_amid_requests_stops_the_job_and_leaves_no_half_output(transform, workspace):
    """13.2, 15.38, 23.1: the command's own handler raises KeyboardInterrupt, wherever the loop is."""
    end = threading.Event()

    def interrupt(*_):
        raise KeyboardInterrupt

    def ends_the_command(seen):
        if seen.body == b"b,2\n":
            os.kill(os.getpid(), signal.SIGTERM)
            end.wait(60)
        return upper(seen)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            transform({"x": ROWS}, ends_the_command, split="Line", BatchStrategy="SingleRecord")
    finally:
        end.set()
        signal.signal(signal.SIGTERM, before)
    [record] = workspace.store.find(Kind.TRANSFORM_JOB)
    assert record.status == "Stopped"
    assert outputs(workspace) == {}
    assert not (workspace.directory_of(Kind.TRANSFORM_JOB, "job") / "partial").exists()


def test_an_output_that_cannot_be_written_fails_its_object_only(transform, workspace):
    """15.38: here an output's name is a folder of other objects."""
    workspace.buckets.put_bytes("s3://bucket/out/x.out/y", b"")
    done = transform({"x": ROWS, "z": ROWS}, split="Line")
    assert done.told["FailureReason"].startswith("ClientError: s3://bucket/in/x: its output cannot be written")
    assert done.outputs["z.out"] == b"A,1\nB,2\nC,3\n"


@pytest.mark.parametrize("containers", [1, 2])
def test_a_payload_without_limit_ends_with_a_newline_where_line_says_so(transform, containers):
    """15.36, 15.37."""
    done = transform(
        {"x": ROWS}, lambda seen: (200, "text/csv", seen.body.strip()), split="Line", assemble="Line", MaxPayloadInMB=0,
        containers=containers,
    )  # fmt: skip
    assert done.outputs == {"x.out": ROWS}


def test_a_payload_without_limit_is_joined_as_a_whole(transform):
    """15.36, 15.40."""
    done = transform({"x": ROWS}, split="Line", MaxPayloadInMB=0, DataProcessing={"JoinSource": "Input"})
    assert done.outputs == {"x.out": b"a,1,A,1\nb,2,B,2\nc,3,C,3\n"}
    assert done.engine.bodies == [ROWS]


def test_a_job_can_be_stopped_while_its_container_is_not_ready_yet(transform, workspace):
    """23.1."""
    engine = FakeEngine(upper)

    def stop_when_awaited(line):
        if line.startswith("waiting for algo-1"):
            call(workspace, "StopTransformJob", {"TransformJobName": "job"})

    done = transform({"x": ROWS}, engine=engine, report=stop_when_awaited)
    assert (done.status, done.outputs, engine.seen) == ("Stopped", {}, [])
    assert engine.stopped == [("algo-1", 30.0)]


def test_what_has_no_effect_is_said(transform):
    """23.6: DataCaptureConfig."""
    done = transform({"x": ROWS}, DataCaptureConfig={"DestinationS3Uri": "s3://bucket/captured"})
    assert "DataCaptureConfig has no effect on transform jobs here" in done.lines

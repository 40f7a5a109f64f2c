"""Data capture: what is written, where, and what survives a kill."""

import base64
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime

import pytest
from local_sagemaker.hosting import capture as capture_module
from local_sagemaker.hosting.capture import Capture, CaptureConfig, Captured, capture_line, recover
from local_sagemaker.hosting.routing import Variant

from tests.support.places import HARNESS
from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.containers import always, answer

AT = datetime(2026, 1, 31, 12, 1, 2, 345000, tzinfo=UTC).timestamp()


@pytest.fixture
def config(tmp_path):
    def make(**options):
        return CaptureConfig(tmp_path / "s3" / "bucket" / "captured", tmp_path / "staging", **options)

    return make


def captured(body=b"1,2", content_type="text/csv", output=b"{}", output_type="application/json", inference_id=""):
    return Captured("blue", inference_id, AT, content_type, body, output_type, output)


def objects(config):
    return sorted(path for path in config.destination.rglob("*") if path.is_file())


def lines(config):
    return [json.loads(line) for path in objects(config) for line in path.read_text().splitlines()]


def test_a_line_has_the_platforms_members(config):
    """21.1."""
    wanted = config(csv_types=("text/csv",), json_types=("application/json",))
    line = json.loads(capture_line(wanted, captured(inference_id="mine")))
    assert line["captureData"] == {
        "endpointInput": {"observedContentType": "text/csv", "mode": "INPUT", "data": "1,2", "encoding": "CSV"},
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": "{}",
            "encoding": "JSON",
        },
    }
    assert line["eventVersion"] == "0"
    assert line["eventMetadata"]["inferenceId"] == "mine"
    assert line["eventMetadata"]["inferenceTime"] == "2026-01-31T12:01:02Z"
    assert set(line["eventMetadata"]) == {"eventId", "inferenceId", "inferenceTime"}


@pytest.mark.parametrize(
    ("content_type", "data", "encoding"),
    [
        ("text/csv", b"1,2", "CSV"),
        ("text/csv; charset=utf-8", b"1,2", "CSV"),
        ("application/json", b"{}", "BASE64"),
        ("text/csv", b"\xff\xfe", "BASE64"),
        ("", b"1", "BASE64"),
    ],
)
def test_data_is_base64_unless_its_content_type_is_listed(config, content_type, data, encoding):
    """21.2."""
    line = json.loads(capture_line(config(csv_types=("text/csv",)), captured(data, content_type)))
    found = line["captureData"]["endpointInput"]
    assert found["encoding"] == encoding
    assert (base64.b64decode(found["data"]) if encoding == "BASE64" else found["data"].encode()) == data


@pytest.mark.parametrize(
    ("options", "sides"),
    [({"captures_output": False}, {"endpointInput"}), ({"captures_input": False}, {"endpointOutput"})],
)
def test_only_the_sides_that_are_asked_for_are_captured(config, options, sides):
    """21.2."""
    assert set(json.loads(capture_line(config(**options), captured()))["captureData"]) == sides


def test_objects_lie_by_endpoint_variant_and_hour(config):
    """21.1."""
    wanted = config()
    capture = Capture("digits", wanted)
    capture.offer(captured())
    capture.close()
    (path,) = objects(wanted)
    assert path.parent == wanted.destination / "digits" / "blue" / "2026" / "01" / "31" / "12"
    assert path.name.startswith("01-02-345-")
    assert path.suffix == ".jsonl"


def test_a_clean_stop_loses_nothing(config):
    """21.1."""
    wanted = config()
    capture = Capture("digits", wanted)
    for number in range(2000):
        capture.offer(captured(b"%d" % number, inference_id=str(number)))
    capture.close()
    assert {line["eventMetadata"]["inferenceId"] for line in lines(wanted)} == {str(number) for number in range(2000)}
    assert (capture.left_out, capture.failed) == (0, 0)
    assert not list(wanted.staging.iterdir())


def test_an_object_appears_while_the_endpoint_runs(config):
    """21.1."""
    wanted = config(object_seconds=0.05)
    capture = Capture("digits", wanted)
    capture.offer(captured())
    wait_until(lambda: lines(wanted), "the object is there")
    capture.close()


def test_what_finds_no_room_is_left_out_and_counted(config):
    """21.2."""
    wanted = config(waiting_bytes=1000)
    capture = Capture("digits", wanted)
    capture.offer(captured(b"x" * 1001))
    capture.offer(captured(b"y"))
    capture.close()
    assert capture.left_out == 1
    assert len(lines(wanted)) == 1


def test_a_full_disk_is_noted_once_and_costs_captures_only(config, monkeypatch):
    """21.2."""
    wanted = config()
    full = threading.Event()
    plain = capture_module.append

    def append(part, line):
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(part, line)

    monkeypatch.setattr(capture_module, "append", append)
    notes = []
    capture = Capture("digits", wanted, notes.append)
    full.set()
    for _ in range(3):
        capture.offer(captured(b"lost"))
    wait_until(lambda: capture.failed == 3, "all three are lost")
    full.clear()
    capture.offer(captured(b"kept", inference_id="kept"))
    capture.close()
    assert [line["eventMetadata"]["inferenceId"] for line in lines(wanted)] == ["kept"]
    assert len(notes) == 2
    assert "No space left on device" in notes[0]
    assert "3 not written" in notes[1]


def test_a_killed_process_leaves_whole_lines_only(config):
    """21.1."""
    wanted = config(object_seconds=0.05)
    program = textwrap.dedent(f"""
        import time
        from pathlib import Path
        from local_sagemaker.hosting.capture import *
        config = CaptureConfig(Path({str(wanted.destination)!r}), Path({str(wanted.staging)!r}), object_seconds=0.05)
        capture = Capture("digits", config)
        while True:
            capture.offer(Captured("blue", "", 1e9, "text/csv", b"x" * 20000, "text/csv", b"y"))
            time.sleep(0.001)
    """)
    environ = {**os.environ, "PYTHONPATH": str(HARNESS.parent)}
    with subprocess.Popen([sys.executable, "-c", program], env=environ) as process:
        wait_until(lambda: len(objects(wanted)) > 1, "objects are there")
        wait_until(lambda: list(wanted.staging.iterdir()), "a part is there")
        process.send_signal(signal.SIGKILL)
    before = len(lines(wanted))
    part = wanted.staging / "digits%2Fblue%2F2001%2F09%2F09%2F01%2Ftorn.jsonl"
    part.write_bytes(capture_line(wanted, captured()) + b'{"captureData": {"endp')
    recover(wanted)
    assert len(lines(wanted)) > before
    assert not list(wanted.staging.iterdir())


def test_a_part_without_a_whole_line_is_dropped(config):
    """21.1."""
    wanted = config()
    wanted.staging.mkdir(parents=True)
    (wanted.staging / "digits%2Fblue%2Ftorn.jsonl").write_bytes(b'{"capture')
    recover(wanted)
    assert not list(wanted.staging.iterdir())
    assert not objects(wanted)


def test_an_endpoints_requests_are_captured(config, containers, make_endpoint):
    """21.1, 21.2."""
    wanted = config(csv_types=("text/csv",), json_types=("application/json",))
    capture = Capture("digits", wanted)
    container = containers.start(always(answer(b"[1]", content_type="application/json")))
    endpoint = make_endpoint(Variant("blue", (container.instance(),)), capture=capture)
    endpoint.boto3().invoke_endpoint(EndpointName="digits", Body=b"1,2", ContentType="text/csv", InferenceId="mine")
    endpoint.router.set_capture(None)
    endpoint.post()
    capture.close()
    (line,) = lines(wanted)
    assert line["captureData"]["endpointInput"]["data"] == "1,2"
    assert line["captureData"]["endpointOutput"]["data"] == "[1]"
    assert line["eventMetadata"]["inferenceId"] == "mine"


def test_a_share_of_the_requests_is_captured(config, containers, make_endpoint):
    """21.2."""
    wanted = config(percentage=30.0)
    capture = Capture("digits", wanted)
    container = containers.start()
    endpoint = make_endpoint(Variant("blue", (container.instance(),)), capture=capture, seed=1)
    for _ in range(200):
        endpoint.post()
    capture.close()
    assert 35 <= len(lines(wanted)) <= 85

"""Processing jobs, run by plain processes: what the program finds, what becomes of what it leaves."""

import json
import shlex
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.engines import DockerEngine, ProcessEngine
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.processing.operations import create_processing_job
from local_sagemaker.processing.plan import plan_containers, plan_processing_job
from local_sagemaker.processing.request import (
    Place,
    ProcessingFlags,
    default_request,
    flags_request,
    parse_inputs,
    parse_outputs,
)
from local_sagemaker.state import runner
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.local_options import LocalOptions

from tests.support.waiting import wait_until

IN, OUT = "/opt/ml/processing/in", "/opt/ml/processing/out"
BASE = 'import os, pathlib, sys; base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])\n'
READS = (
    BASE
    + """
rows = sorted(path.read_text() for path in (base / "processing" / "in").rglob("*.csv"))
(base / "processing" / "out" / "sum.txt").write_text(" ".join([*sys.argv[1:], *rows]))
"""
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def make(workspace):
    """A valid request of the image's own program, or of a Python program of the test's."""

    def make(program=None, flags=None, **over):
        flags = flags or ProcessingFlags(image="image", inputs=(Place("data", IN, "s3://bucket/data/"),))
        known = default_request("job")
        request = {**known, **flags_request(flags, workspace, "job", known), **over}
        if program is not None:
            path = workspace.root / "program.py"
            path.write_text(textwrap.dedent(program))
            request["AppSpecification"]["ContainerEntrypoint"] = [sys.executable, str(path)]
        return request

    return make


@pytest.fixture
def data(workspace):
    for name in "abc":
        workspace.buckets.put_bytes(f"s3://bucket/data/{name}.csv", name.encode())


@pytest.fixture
def outputs():
    return {"ProcessingOutputConfig": {"Outputs": [output("out", "s3://bucket/out")]}}


def output(name, uri, mode="EndOfJob", path=OUT):
    return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode}}


@pytest.fixture
def run(workspace):
    def run(request, options=None):
        create_processing_job(workspace, request, options)
        runner.run(workspace, ProcessEngine(), Kind.PROCESSING_JOB, "job")
        return call(workspace, "DescribeProcessingJob", {"ProcessingJobName": "job"})

    return run


@pytest.mark.usefixtures("data")
def test_inputs_arguments_and_outputs(make, run, outputs, workspace):
    """10.1, 10.3; what SDKs read of the answer is there."""
    request = make(READS, **outputs)
    request["AppSpecification"]["ContainerArguments"] = ["--all"]
    described = run(request)
    assert described["ProcessingJobStatus"] == "Completed"
    assert described["ProcessingResources"] == request["ProcessingResources"]
    assert described["ProcessingStartTime"] <= described["ProcessingEndTime"]
    assert workspace.buckets.read_bytes("s3://bucket/out/sum.txt") == b"--all a b c"


@pytest.mark.parametrize("name", ["../../../out", "a/b:c", "..", "größe, 1"])
@pytest.mark.usefixtures("data")
def test_an_output_may_have_any_name_and_stays_in_the_jobs_directory(make, run, workspace, name):
    """10.3."""
    config = {"ProcessingOutputConfig": {"Outputs": [output(name, "s3://bucket/out")]}}
    described = run(make(f"{BASE}(base / 'processing/out/report').write_text('r')", **config))
    assert described["ProcessingJobStatus"] == "Completed"
    assert workspace.buckets.read_bytes("s3://bucket/out/report") == b"r"
    (written,) = (path for path in workspace.root.rglob("report") if "s3" not in path.parts)
    assert written.is_relative_to(workspace.directory_of(Kind.PROCESSING_JOB, "job"))


@pytest.mark.usefixtures("data")
def test_what_a_job_does_to_its_input_stays_its_own(make, run, workspace):
    run(make(BASE + '(base / "processing" / "in" / "a.csv").write_text("changed")'))
    assert workspace.buckets.read_bytes("s3://bucket/data/a.csv") == b"a"


@pytest.mark.usefixtures("data")
def test_the_platforms_documents_are_below_opt_ml_config(make, run, workspace):
    """10.4."""
    request = make("", Environment={"KEY": "value"})
    run(request)
    config = workspace.directory_of(Kind.PROCESSING_JOB, "job") / "config"
    documents = {path.name: json.loads(path.read_text()) for path in config.iterdir()}
    assert documents["resourceconfig.json"]["hosts"] == ["algo-1"]
    told = documents["processingjobconfig.json"]
    assert told["ProcessingJobArn"] == "arn:aws:sagemaker:us-east-1:000000000000:processing-job/job"
    assert {key: told[key] for key in request} == request


@pytest.mark.usefixtures("data")
def test_the_first_1024_bytes_of_the_message_are_told(make, run):
    """10.5."""
    described = run(make(BASE + '(base / "output" / "message").write_text("ä" * 1000, encoding="utf-8")'))
    assert described["ExitMessage"] == "ä" * 512


@pytest.mark.usefixtures("data")
def test_a_message_that_is_no_text_fails_the_job(make, run):
    """10.5."""
    described = run(make(BASE + '(base / "output" / "message").write_bytes(b"\\xff")'))
    assert described["ProcessingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: ")


@pytest.mark.parametrize("left", ["os.mkfifo(message)", "message.symlink_to('/etc/passwd')", "message.mkdir()"])
@pytest.mark.usefixtures("data")
def test_a_message_that_is_no_file_of_the_containers_is_none(make, run, left):
    """10.5: a pipe would be waited for, a link would show this machine's files."""
    described = run(make(f"{BASE}message = base / 'output' / 'message'\n{left}"))
    assert described["ProcessingJobStatus"] == "Completed"
    assert "ExitMessage" not in described


@pytest.mark.usefixtures("data")
def test_another_exit_code_than_0_fails_the_job(make, run, outputs, workspace):
    """10.5."""
    described = run(make(READS + "sys.exit(3)", **outputs))
    assert (described["ProcessingJobStatus"], described["FailureReason"]) == ("Failed", "AlgorithmError: Exit Code: 3")
    assert list(workspace.buckets.objects("s3://bucket/out/")) == []


def test_an_input_without_objects_fails_the_job(make, run):
    described = run(make(""))
    assert described["FailureReason"].startswith("ClientError: Data download failed: no S3 objects found")


@pytest.mark.usefixtures("data")
def test_links_are_not_uploaded(make, run, outputs, workspace):
    """10.3."""
    run(make(READS + '(base / "processing" / "out" / "link").symlink_to("sum.txt")', **outputs))
    assert [item.key for item in workspace.buckets.objects("s3://bucket/out/")] == ["out/sum.txt"]


@pytest.mark.usefixtures("data")
def test_a_continuous_output_is_there_while_the_job_runs_and_a_stop_ends_it(make, workspace):
    """10.3, 23.1."""
    program = READS + "import threading; threading.Event().wait()"
    config = {"ProcessingOutputConfig": {"Outputs": [output("out", "s3://bucket/out", "Continuous")]}}
    create_processing_job(workspace, make(program, **config))
    thread = threading.Thread(target=runner.run, args=(workspace, ProcessEngine(), Kind.PROCESSING_JOB, "job"))
    thread.start()
    try:
        wait_until(lambda: workspace.buckets.exists("s3://bucket/out/sum.txt"), "the output", 60)
    finally:
        call(workspace, "StopProcessingJob", {"ProcessingJobName": "job"})
        thread.join(60)
    described = call(workspace, "DescribeProcessingJob", {"ProcessingJobName": "job"})
    assert described["ProcessingJobStatus"] == "Stopped"


def test_ctrl_c_stops_the_job_as_the_platform_does_and_ends_the_command_with_130(workspace):
    """10.3."""
    program = """
        import os, pathlib, signal, sys
        def save(*_):
            pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "processing", "out", "saved").write_text("yes")
            sys.exit(3)
        signal.signal(signal.SIGTERM, save)
        print("ready", flush=True)
        while True:
            signal.pause()
    """
    path = workspace.root / "program.py"
    path.write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "local_sagemaker", "process", "--project", workspace.root, "--job-name", "job"]
    command += [
        "--engine",
        "process",
        "--entrypoint",
        shlex.join([sys.executable, str(path)]),
        "--output",
        f"out={OUT}:s3://bucket/out",
    ]
    log = workspace.directory_of(Kind.PROCESSING_JOB, "job") / "logs.txt"
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: log.is_file() and "ready" in log.read_text(), "a log", 120)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"job: Stopped" in told
    assert workspace.store.get(Kind.PROCESSING_JOB, "job").status == "Stopped"
    assert workspace.buckets.read_bytes("s3://bucket/out/saved") == b"yes"


def test_a_host_sees_its_part_of_a_sharded_input(make, workspace, data):
    """10.1: no argument is added; hosts of one network."""
    del data
    inputs = (Place("data", IN, "s3://bucket/data/"),)
    request = make(flags=ProcessingFlags(image="image", inputs=inputs, sharded=frozenset({"data"}), hosts=2))
    job = plan_processing_job(request, workspace, LocalOptions())
    assert [(job.share(job.inputs[0], host).index, job.share(job.inputs[0], host).count) for host in job.hosts] == [
        (0, 2),
        (1, 2),
    ]
    commands = [DockerEngine(client=None).describe(plan) for plan in plan_containers(job).values()]
    assert all(command.endswith(" image") for command in commands)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"ProcessingOutputConfig": {"Outputs": [output("o", "s3://b/o", path="/tmp/out")]}}, "must begin with"),
        (
            {"ProcessingOutputConfig": {"Outputs": [output("o", "s3://b/o", path=IN)]}},
            "is that of several inputs or outputs",
        ),
        (
            {"ProcessingOutputConfig": {"Outputs": [output("o", "s3://b/o"), output("o", "s3://b/p", path=OUT + "2")]}},
            "o is there 2 times",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused(make, workspace, over, words):
    """10.3."""
    with pytest.raises(ValidationError, match=words):
        create_processing_job(workspace, make(**over))
    assert workspace.store.find() == []


def test_inputs_and_outputs_are_read(tmp_path):
    (tmp_path / "a:b").mkdir()
    (place,) = parse_inputs((f"data={tmp_path}/a:b:{IN}",))
    assert (place.name, place.target, place.folder) == ("data", IN, tmp_path / "a:b")
    (remote,) = parse_inputs((f"data=s3://bucket/key:{IN}",))
    assert (remote.folder, remote.uri("s3://home")) == (None, "s3://bucket/key")
    plain, placed = parse_outputs((f"out={OUT}", f"out={OUT}:s3://bucket/out"))
    assert (plain.uri("s3://home/job"), placed.uri("s3://home")) == ("s3://home/job/out", "s3://bucket/out")


@pytest.mark.parametrize("text", ["data", "data=.", "data=.:/tmp/in", "=.:/opt/ml/processing/in"])
def test_an_input_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="cannot be read"):
        parse_inputs((text,))


def test_an_output_elsewhere_is_refused():
    with pytest.raises(UsageError, match="cannot be read"):
        parse_outputs(("out=/tmp/out",))

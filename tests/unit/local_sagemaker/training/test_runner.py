"""Training jobs with records, run to their ends by plain processes: what the record tells, and when."""

import gzip
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.training.chaos import Interruption
from local_sagemaker.training.local_options import LocalOptions

from tests.support.processes import alive
from tests.support.waiting import wait_until

BASE = 'import os, pathlib; base = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])\n'
WAITS = "import threading; print('ready', flush=True); threading.Event().wait()"
SPOT = {"EnableManagedSpotTraining": True, "StoppingCondition": {"MaxWaitTimeInSeconds": 86400}}
# Saves a checkpoint, and only the third attempt gets to the end.
THREE_ATTEMPTS = f"""
{BASE}
seen = sorted(path.name for path in (base / "checkpoints").iterdir())
print("found", *seen, "and", *(path.name for path in (base / "model").iterdir()), flush=True)
(base / "model" / f"of-{{len(seen)}}").touch()
(base / "checkpoints" / f"{{len(seen)}}.pt").touch()
if len(seen) < 2:
    {WAITS}
"""


def statuses(description):
    return [one["Status"] for one in description["SecondaryStatusTransitions"]]


def log_of(workspace, name="job"):
    log = workspace.directory_of(Kind.TRAINING_JOB, name) / "logs.txt"
    return log.read_text() if log.exists() else ""


def test_a_job_goes_through_the_platforms_states(create, run):
    """1.16, 1.17, 6.5: one after the other, each with its times."""
    described = run(create("print('done')"))
    assert statuses(described) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    for before, after in pairwise(described["SecondaryStatusTransitions"]):
        assert before["EndTime"] == after["StartTime"]
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Completed", "Completed")
    assert described["TrainingStartTime"] <= described["TrainingEndTime"]
    assert described["BillableTimeInSeconds"] == described["TrainingTimeInSeconds"] >= 1


def test_artifacts_appear_in_s3_below_the_jobs_name(create, run, workspace):
    """6.1, 6.3."""
    program = BASE + '(base / "model" / "w").write_text("w"); (base / "output" / "data" / "h").write_text("h")'
    described = run(create(program, OutputDataConfig={"S3OutputPath": "s3://bucket/out"}))
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bucket/out/job/output/model.tar.gz"
    keys = [item.key for item in workspace.buckets.objects("s3://bucket/")]
    assert keys == ["out/job/output/model.tar.gz", "out/job/output/output.tar.gz"]


def test_artifacts_may_be_files(create, run, workspace):
    """6.4."""
    program = BASE + '(base / "model" / "a").mkdir(); (base / "model" / "a" / "w").write_text("w")'
    output = {"S3OutputPath": "s3://bucket/", "CompressionType": "NONE"}
    described = run(create(program, OutputDataConfig=output))
    assert described["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bucket/job/output/model/"
    assert workspace.buckets.read_bytes("s3://bucket/job/output/model/a/w") == b"w"


def test_a_failed_job_says_why(create, run):
    """1.7, 1.9, 1.10, 26.6."""
    described = run(create(BASE + '(base / "output" / "failure").write_text("no column"); raise SystemExit(3)'))
    assert (described["TrainingJobStatus"], described["FailureReason"]) == ("Failed", "AlgorithmError: no column")
    assert statuses(described)[-1] == "Failed"


def test_missing_data_fails_the_job_before_it_starts(create, run):
    """1.10, 3.3: a fault of the caller."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/absent/"}}
    described = run(create("", InputDataConfig=[{"ChannelName": "train", "DataSource": source}]))
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: Data download failed: no S3 objects found under S3 URL")
    assert statuses(described) == ["Starting", "Downloading", "Failed"]


def test_data_that_ends_too_early_in_a_pipe_fails_the_job_that_read_it(create, run, workspace):
    """1.10, 3.7: a program that is content with half of its data must not train a model that says nothing of it."""
    workspace.buckets.put_bytes("s3://bucket/train/a.gz", gzip.compress(os.urandom(1 << 20))[: 1 << 19])
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/train/"}}
    channel = {"ChannelName": "train", "DataSource": source, "InputMode": "Pipe", "CompressionType": "Gzip"}
    described = run(create(f'{BASE}(base / "input/data/train_0").read_bytes(); {WAITS}', InputDataConfig=[channel]))
    assert described["TrainingJobStatus"] == "Failed"
    assert described["FailureReason"].startswith("ClientError: Data download failed: channel train: ")


def test_the_limit_stops_the_job_and_is_its_secondary_status(create, run):
    """1.12, 1.18."""
    options = LocalOptions(max_runtime_seconds=1.0)
    described = run(create(WAITS, options))
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")
    assert statuses(described)[-1] == "MaxRuntimeExceeded"


def test_a_running_job_is_stopped_and_what_it_saved_is_kept(create, running, workspace, describe):
    """1.12, 1.13, 1.14, 1.16, 26.6."""
    name = create(
        BASE
        + """
import signal, sys
def save(*_):
    (base / "model" / "saved").touch()
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
"""
        + WAITS
    )
    thread = running(name)
    wait_until(lambda: describe()["SecondaryStatus"] == "Training" and "ready" in log_of(workspace), "the job", 60)
    call(workspace, "StopTrainingJob", {"TrainingJobName": name})
    thread.join(60)
    described = describe()
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert statuses(described)[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert (workspace.directory_of(Kind.TRAINING_JOB, name) / "model" / "saved").exists()


def test_a_job_that_was_stopped_before_it_ran_does_not_start(create, run, workspace):
    name = create("print('started')")
    call(workspace, "StopTrainingJob", {"TrainingJobName": name})
    assert run(name)["TrainingJobStatus"] == "Stopped"
    assert log_of(workspace) == ""


def test_metrics_are_in_the_store_while_the_job_runs_and_the_last_ones_in_its_description(
    create, running, workspace, describe
):
    """8.1, 8.2."""
    definitions = [{"Name": "loss", "Regex": "loss=([0-9.]+);"}]
    name = create(
        "print('loss=0.5;'); print('loss=0.25;');" + WAITS, AlgorithmSpecification={"MetricDefinitions": definitions}
    )
    thread = running(name)
    store = workspace.store
    wait_until(lambda: len(store.metrics(Kind.TRAINING_JOB, name)) == 2, "two values", 60)
    assert describe()["TrainingJobStatus"] == "InProgress"
    call(workspace, "StopTrainingJob", {"TrainingJobName": name})
    thread.join(60)
    points = store.metrics(Kind.TRAINING_JOB, name, "loss")
    assert [(point.value, point.host) for point in points] == [(0.5, "algo-1"), (0.25, "algo-1")]
    (last,) = describe()["FinalMetricDataList"]
    assert (last["MetricName"], last["Value"]) == ("loss", 0.25)


@pytest.mark.parametrize("kill", [False, True])
def test_an_interrupted_job_starts_afresh_and_only_its_checkpoints_are_left(create, run, workspace, kill, ready_first):
    """7.5, 7.6, 26.6."""
    options = LocalOptions(interruptions=(Interruption(0.1, kill), Interruption(0.1, kill)))
    ready_first(workspace.directory_of(Kind.TRAINING_JOB, "job") / "logs.txt")
    described = run(create(THREE_ATTEMPTS, options, **SPOT))
    assert described["TrainingJobStatus"] == "Completed"
    attempt = ["Starting", "Downloading", "Training"]
    assert statuses(described) == [*attempt, "Interrupted", *attempt, "Interrupted", *attempt, "Uploading", "Completed"]
    found = [line for line in log_of(workspace).splitlines() if line.startswith("found")]
    assert found == ["found and", "found 0.pt and", "found 0.pt 1.pt and"]
    result = json.loads((workspace.directory_of(Kind.TRAINING_JOB, "job") / "job.json").read_text())
    assert result["attempts"] == 3
    checkpoints = workspace.buckets.objects(f"s3://{workspace.default_bucket}/job/checkpoints/")
    assert [item.key.rpartition("/")[2] for item in checkpoints] == ["0.pt", "1.pt", "2.pt"]


def test_without_a_checkpoint_location_an_interruption_leaves_nothing(create, running, workspace, ready_first):
    """7.1, 7.5."""
    options = LocalOptions(interruptions=(Interruption(0.1, kill=True),))
    ready_first(workspace.directory_of(Kind.TRAINING_JOB, "job") / "logs.txt")
    name = create(THREE_ATTEMPTS, options, without=("CheckpointConfig",), **SPOT)
    thread = running(name)
    wait_until(lambda: log_of(workspace).count("ready") == 2, "the second attempt")
    call(workspace, "StopTrainingJob", {"TrainingJobName": name})
    thread.join(60)
    assert log_of(workspace) == "found and\nready\n" * 2


def test_a_job_that_waits_too_long_for_an_instance_is_stopped_for_it(create, run):
    """7.5, 1.18."""
    limits = {"MaxRuntimeInSeconds": 2, "MaxWaitTimeInSeconds": 2}
    interruptions = (Interruption(0.2, kill=True, wait_seconds=600.0),)
    options = LocalOptions(interruptions=interruptions, max_runtime_seconds=600.0)
    described = run(create(WAITS, options, EnableManagedSpotTraining=True, StoppingCondition=limits))
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")


def test_a_prefix_of_the_buckets_is_a_channel_that_the_job_may_write_to(create, run, workspace):
    """3.3, 3.9: of a copy; the objects stay as they are."""
    workspace.buckets.put_bytes("s3://bucket/data/a.csv", b"kept")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data/"}}
    program = BASE + '(base / "input" / "data" / "train" / "a.csv").write_text("changed")'
    described = run(create(program, InputDataConfig=[{"ChannelName": "train", "DataSource": source}]))
    assert described["TrainingJobStatus"] == "Completed"
    assert workspace.buckets.read_bytes("s3://bucket/data/a.csv") == b"kept"


@pytest.mark.parametrize("quoted", [True, False])
def test_source_that_an_sdk_uploaded_is_found_by_the_container(create, run, workspace, quoted):
    """12.2, 12.5: the archive in the local buckets is there as a file, and the request stays what it was."""
    uri = "s3://bucket/job/source/sourcedir.tar.gz"
    workspace.buckets.put_bytes(uri, b"an archive")
    sent = json.dumps(uri) if quoted else uri
    program = BASE + (
        'import json; sent = json.loads((base / "input/config/hyperparameters.json").read_text()); '
        f'place = sent["sagemaker_submit_directory"]; place = json.loads(place) if {quoted} else place; '
        "print(pathlib.Path(place).read_text())"
    )
    described = run(create(program, HyperParameters={"sagemaker_submit_directory": sent}))
    assert described["TrainingJobStatus"] == "Completed"
    assert "an archive" in log_of(workspace)
    assert described["HyperParameters"]["sagemaker_submit_directory"] == sent


def test_source_elsewhere_is_the_containers_to_fetch(create, run, workspace):
    sent = "s3://not-here/sourcedir.tar.gz"
    program = BASE + 'print((base / "input/config/hyperparameters.json").read_text())'
    run(create(program, HyperParameters={"sagemaker_submit_directory": sent}))
    assert sent in log_of(workspace)


def test_folders_for_tensorboard_are_carried_to_s3(create, run, workspace):
    """6.6."""
    program = BASE + '(base / "output" / "tensorboard" / "events").write_text("e")'
    run(create(program, TensorBoardOutputConfig={"S3OutputPath": "s3://bucket/boards"}))
    assert workspace.buckets.read_bytes("s3://bucket/boards/job/tensorboard/events") == b"e"


def test_jobs_of_a_kind_that_run_at_once_have_warm_pools_of_their_own(create, run, running, workspace):
    """9.3, 24.8: the training jobs of a tuning job; a pool that another job has is neither shared nor emptied."""
    warm = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "KeepAlivePeriodInSeconds": 600}
    cache = BASE + "cache = base / 'sagemaker' / 'warmpoolcache'\n"
    waiting = f"""
{cache}
(cache / 'first').touch()
print('ready', flush=True)
while not (base / 'checkpoints' / 'go').exists():
    time.sleep(0.05)
assert [path.name for path in cache.iterdir()] == ['first']
"""
    first = running(create("import time\n" + waiting, name="first", ResourceConfig=warm))
    wait_until(lambda: "ready" in log_of(workspace, "first"), "the first job to have its pool")
    described = run(create(cache + "assert not list(cache.iterdir())", name="second", ResourceConfig=warm))
    assert described["TrainingJobStatus"] == "Completed"
    (workspace.directory_of(Kind.TRAINING_JOB, "first") / "checkpoints" / "go").touch()
    first.join(120)
    assert workspace.store.get(Kind.TRAINING_JOB, "first").status == "Completed"


def test_a_warm_pool_keeps_one_folder_for_the_next_job_of_its_kind(create, run, workspace):
    """4.5, 9.2, 9.3."""
    program = BASE + (
        "cache = base / 'sagemaker' / 'warmpoolcache'\n"
        "assert os.environ['SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY'] == '/opt/ml/sagemaker/warmpoolcache'\n"
        "print('cached', *(path.name for path in cache.iterdir()))\n"
        "(cache / os.environ['TRAINING_JOB_NAME']).touch()\n"
    )
    warm = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "KeepAlivePeriodInSeconds": 600}
    other = {**warm, "InstanceType": "ml.m5.xlarge"}
    for name, resources in (("one", warm), ("two", warm), ("three", other)):
        described = run(create(program, name=name, ResourceConfig=resources))
        assert described["TrainingJobStatus"] == "Completed"
        assert described["WarmPoolStatus"] == {"Status": "Available"}
    assert [log_of(workspace, name) for name in ("one", "two", "three")] == ["cached\n", "cached one\n", "cached\n"]


def test_a_killed_byoc_leaves_a_failed_job_and_no_process(create, workspace, describe):
    """A record tells the truth also when nobody could write it."""
    name = create("import os; print(f'pid={os.getpid()};', flush=True);" + WAITS)
    command = [sys.executable, "-m", "local_sagemaker.state.runner", workspace.root, "TrainingJob", name]
    with subprocess.Popen([*map(str, command), "--engine", "process"], start_new_session=True) as process:
        wait_until(lambda: "pid=" in log_of(workspace), "the job", 60)
        process.send_signal(signal.SIGKILL)
    assert describe()["TrainingJobStatus"] == "InProgress"
    (record,) = reconcile(workspace, [ProcessEngine()])
    assert record.status == "Failed"
    assert "was killed" in describe()["FailureReason"]
    child = int(log_of(workspace).partition("pid=")[2].partition(";")[0])
    assert not alive(child)

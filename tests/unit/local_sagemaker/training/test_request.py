"""The request that a project and flags amount to: valid by the service's model, and over a document."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.session import get_session
from local_sagemaker.api.validation import validate
from local_sagemaker.engines import Limits
from local_sagemaker.training.chaos import Interruption
from local_sagemaker.training.cluster import parse_groups
from local_sagemaker.training.local_options import LocalOptions, read_local_options, write_local_options
from local_sagemaker.training.plan import make_request, plan_from_request
from local_sagemaker.training.request import NOT_PLAYED, TrainingFlags, doubts

EVERYTHING = TrainingFlags(
    image="digits:latest",
    hyperparameters={"epochs": "3"},
    channels={"train": Path("/data"), "test": "s3://bucket/test/"},
    environment={"KEY": "value"},
    metrics={"loss": "loss=([0-9.]+)"},
    input_mode="FastFile",
    max_runtime_seconds=90.5,
    network="none",
    hosts=3,
    instance_type="local",
    checkpoints=Path("/kept"),
    is_spot=True,
)


def test_what_flags_say_is_a_valid_request(workspace):
    """1.21, 7.5."""
    request = make_request(EVERYTHING, workspace, "job")
    validate("CreateTrainingJob", request)
    assert request["AlgorithmSpecification"]["TrainingInputMode"] == "FastFile"
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 91, "MaxWaitTimeInSeconds": 91}
    assert (request["EnableNetworkIsolation"], request["EnableManagedSpotTraining"]) == (True, True)
    assert request["ResourceConfig"]["InstanceCount"] == 3
    uris = [one["DataSource"]["S3DataSource"]["S3Uri"] for one in request["InputDataConfig"]]
    assert uris == ["s3://bucket/test/", f"s3://{workspace.default_bucket}/job/input/train/"]


def test_a_type_that_the_service_does_not_know_is_told_to_the_container_only(workspace):
    """2.10."""
    flags = TrainingFlags(image="i", instance_groups=parse_groups("cpu=1:ml.c5.xlarge,gpu=2"), instance_type="local")
    request = make_request(flags, workspace, "job")
    validate("CreateTrainingJob", request)
    job = plan_from_request(request, workspace, LocalOptions(types=flags.types))
    types = {group.name: (group.instance_type, len(group.hosts)) for group in job.cluster.groups}
    assert types == {"cpu": ("ml.c5.xlarge", 1), "gpu": ("local", 2)}


def test_flags_win_over_a_document_and_leave_the_rest_of_it(workspace, make_request_document):
    document = make_request_document
    flags = TrainingFlags(channels={"train": "s3://mine/train"}, metrics={"loss": "l=(.*)"}, hosts=2)
    request = make_request(flags, workspace, "other", document)
    validate("CreateTrainingJob", request)
    assert request["TrainingJobName"] == "other"
    names = [one["ChannelName"] for one in request["InputDataConfig"]]
    assert names == ["test", "train"]
    definitions = {one["Name"]: one["Regex"] for one in request["AlgorithmSpecification"]["MetricDefinitions"]}
    assert definitions == {"f1": "f1=(.*)", "loss": "l=(.*)"}
    assert request["ResourceConfig"] == {**document["ResourceConfig"], "InstanceCount": 2}
    assert request["StoppingCondition"] == document["StoppingCondition"]


@pytest.fixture
def make_request_document(make_request):
    channels = [
        {
            "ChannelName": name,
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://theirs/{name}"}},
        }
        for name in ("train", "test")
    ]
    definitions = [{"Name": "loss", "Regex": "loss=(.*)"}, {"Name": "f1", "Regex": "f1=(.*)"}]
    return make_request(InputDataConfig=channels, AlgorithmSpecification={"MetricDefinitions": definitions})


def test_what_the_model_allows_and_the_guide_does_not_is_doubted(make_request):
    """2.2, 9.1."""
    request = make_request(HyperParameters={"long": "x" * 257, "short": "x" * 256})
    request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = 7200
    validate("CreateTrainingJob", request)
    first, second = doubts(request)
    assert "hyperparameter long has 257 characters" in first
    assert "KeepAlivePeriodInSeconds is 7200" in second


def test_what_a_request_cannot_say_is_kept_beside_the_job(tmp_path):
    """A detached runner reads it."""
    options = LocalOptions(
        code=Path("/code"),
        folders={"train": Path("/data")},
        checkpoints=Path("/kept"),
        max_runtime_seconds=1.5,
        limits=Limits(memory_bytes=1 << 30, gpus="all"),
        types={"cpu": "local"},
        interruptions=(Interruption(5.0, kill=True),),
    )
    write_local_options(options, tmp_path / "job")
    assert read_local_options(tmp_path / "job") == options
    assert read_local_options(tmp_path / "absent") == LocalOptions()


def test_a_documents_values_are_not_overruled_by_the_defaults_of_options(make_request, workspace):
    """The engine's commands are planned from the document; only --hyperparameter was written."""
    request = make_request(
        HyperParameters={"epochs": "5", "rate": "0.1"}, StoppingCondition={"MaxRuntimeInSeconds": 77}
    )
    document = workspace.root / "request.json"
    document.write_text(json.dumps(request))
    command = [sys.executable, "-m", "local_sagemaker", "train", workspace.root, "--request", document]
    command += ["--hyperparameter", "epochs=6", "--engine", "process", "--dry-run", "--json"]
    ran = subprocess.run([*map(str, command)], capture_output=True, check=False, timeout=120)
    planned = json.loads(ran.stdout)["request"]
    assert planned == {**request, "HyperParameters": {"epochs": "6", "rate": "0.1"}}


def test_what_is_not_played_is_said_where_a_request_wants_it(make_request):
    """8.6: a job goes on without it."""
    wanted = doubts(
        make_request(
            ProfilerConfig={"S3OutputPath": "s3://bucket/profile"},
            VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
            EnableInterContainerTrafficEncryption=True,
            RetryStrategy={"MaximumRetryAttempts": 2},
        )
    )
    assert [sentence.split(" is not played here: ")[0] for sentence in wanted] == [
        "EnableInterContainerTrafficEncryption",
        "ProfilerConfig",
        "RetryStrategy",
        "VpcConfig",
    ]


def test_what_a_request_turns_off_is_not_missed(make_request):
    off = {"ProfilerConfig": {"DisableProfiler": True}, "RemoteDebugConfig": {"EnableRemoteDebug": False}}
    assert doubts(make_request(**off, EnableInterContainerTrafficEncryption=False)) == []


def test_every_member_that_is_not_played_is_one_of_the_services():
    members = get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape.members
    assert NOT_PLAYED.keys() <= members.keys()

"""Each operation of the API that is played here answers in the shape that the service model gives it."""

from datetime import UTC, datetime
from numbers import Real

import pytest
from local_sagemaker.api.operations import OPERATIONS, call
from local_sagemaker.api.service_model import output_shape
from local_sagemaker.errors import UnknownOperationError, ValidationError
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

IMAGE = "anybody/model:1"
ROLE = "arn:aws:iam::000000000000:role/service-role/me"
CLUSTER = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
ALGORITHM = {
    "TrainingImage": IMAGE,
    "TrainingInputMode": "File",
    "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}],
}
TRAINING = {
    "RoleArn": ROLE,
    "AlgorithmSpecification": ALGORITHM,
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": CLUSTER,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
VARIANT = {"VariantName": "blue", "ModelName": "a", "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
S3_INPUT = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in/"}}
TUNING = {
    "HyperParameterTuningJobConfig": {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 2, "MaxParallelTrainingJobs": 1},
        "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "lr", "MinValue": "0.1", "MaxValue": "1"}]},
    },
    "TrainingJobDefinition": {
        "AlgorithmSpecification": ALGORITHM,
        **{key: TRAINING[key] for key in ("RoleArn", "OutputDataConfig", "ResourceConfig", "StoppingCondition")},
    },
}
# What makes a resource of each kind, less its name, and the words of its operations.
REQUESTS = {
    Kind.MODEL: {"PrimaryContainer": {"Image": IMAGE}, "ExecutionRoleArn": ROLE},
    Kind.ENDPOINT_CONFIG: {"ProductionVariants": [VARIANT]},
    Kind.ENDPOINT: {"EndpointConfigName": "a"},
    Kind.TRAINING_JOB: TRAINING,
    Kind.PROCESSING_JOB: {
        "ProcessingResources": {"ClusterConfig": CLUSTER},
        "AppSpecification": {"ImageUri": IMAGE},
        "RoleArn": ROLE,
    },
    Kind.TRANSFORM_JOB: {
        "ModelName": "a",
        "TransformInput": {"DataSource": S3_INPUT},
        "TransformOutput": {"S3OutputPath": "s3://bucket/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
    Kind.TUNING_JOB: TUNING,
}
TAGS = [{"Key": "team", "Value": "digits"}]


@pytest.fixture
def workspace(tmp_path):
    made = Workspace.of(tmp_path)
    made.buckets.put_bytes("s3://bucket/in/x.csv", b"1\n")
    return made


def answer(workspace, operation, **request):
    """An operation's answer, which holds to its shape."""
    answered = call(workspace, operation, request)
    assert list(faults(output_shape(operation), answered, operation)) == []
    return answered


def faults(shape, value, path):
    """Where a document is not what botocore's parser, and an SDK behind it, would find in the service's answer."""
    if shape is None:
        if value:
            yield f"{path}: the operation answers nothing"
    elif shape.type_name == "structure":
        yield from (f"{path}.{name}: unknown" for name in value if name not in shape.members)
        yield from (f"{path}.{name}: absent" for name in shape.required_members if value.get(name) is None)
        for name in value.keys() & shape.members.keys():
            yield from faults(shape.members[name], value[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for place, item in enumerate(value):
            yield from faults(shape.member, item, f"{path}[{place}]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from faults(shape.value, item, f"{path}.{key}")
    else:
        yield from _scalar_faults(shape, value, path)


def _scalar_faults(shape, value, path):
    kinds = {"string": str, "boolean": bool, "integer": int, "long": int, "timestamp": Real}
    wrong = not isinstance(value, kinds.get(shape.type_name, Real))
    if wrong or (shape.type_name != "boolean" and isinstance(value, bool)):
        yield f"{path}: {value!r} is no {shape.type_name}"
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"


def make(workspace, kind, name="a"):
    """Make a resource and all that it needs, unless they are there."""
    needed = {
        Kind.ENDPOINT_CONFIG: [Kind.MODEL],
        Kind.ENDPOINT: [Kind.ENDPOINT_CONFIG],
        Kind.TRANSFORM_JOB: [Kind.MODEL],
    }
    for other in needed.get(kind, ()):
        if not workspace.store.find(other, "a"):
            make(workspace, other)
    return answer(workspace, f"Create{kind}", **{f"{kind}Name": name}, **REQUESTS[kind], Tags=TAGS)


def names(workspace, kind, **asked):
    listed = answer(workspace, f"List{kind}s", **asked)
    member = next(name for name in output_shape(f"List{kind}s").members if name != "NextToken")
    return [summary[f"{kind}Name"] for summary in listed[member]]


@pytest.mark.parametrize("kind", Kind)
def test_what_was_made_is_described_and_listed_in_the_services_shape(workspace, kind):
    """23.1, 23.2."""
    made = make(workspace, kind)
    told = answer(workspace, f"Describe{kind}", **{f"{kind}Name": "a"})
    assert made == {f"{kind}Arn": told[f"{kind}Arn"]}
    assert told["CreationTime"] > datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    assert names(workspace, kind) == ["a"]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.is_job])
@pytest.mark.parametrize("status", ["Completed", "Failed", "Stopping", "Stopped"])
def test_a_job_is_told_in_the_services_shape_in_every_status(workspace, kind, status):
    """23.1."""
    make(workspace, kind)
    workspace.store.change(kind, "a", lambda told: told.update({kind.status_key: status}))
    assert answer(workspace, f"Describe{kind}", **{f"{kind}Name": "a"})[kind.status_key] == status
    assert names(workspace, kind, StatusEquals=status) == ["a"]
    assert names(workspace, kind, StatusEquals="InProgress") == []


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.is_job])
def test_a_job_that_was_stopped_has_an_end(workspace, kind):
    """23.1."""
    make(workspace, kind)
    workspace.store.release(kind, "a")
    assert answer(workspace, f"Stop{kind}", **{f"{kind}Name": "a"}) == {}
    told = answer(workspace, f"Describe{kind}", **{f"{kind}Name": "a"})
    assert told[kind.status_key] == "Stopped"
    assert [name for name in told if name.endswith("EndTime")] != []


@pytest.mark.parametrize("kind", [Kind.ENDPOINT, Kind.ENDPOINT_CONFIG, Kind.MODEL, Kind.TRAINING_JOB])
def test_what_was_deleted_is_gone(workspace, kind):
    """23.1, 23.2."""
    make(workspace, kind)
    workspace.store.release(kind, "a")
    if kind.is_job:
        call(workspace, f"Stop{kind}", {f"{kind}Name": "a"})
    assert answer(workspace, f"Delete{kind}", **{f"{kind}Name": "a"}) == {}
    assert names(workspace, kind) == []


def test_an_endpoint_in_service_is_changed_in_the_services_shape(workspace):
    """23.2."""
    make(workspace, Kind.ENDPOINT)
    serving = {
        "EndpointStatus": "InService",
        "ProductionVariants": [{"VariantName": "blue", "DesiredWeight": 1.0, "DesiredInstanceCount": 1}],
    }
    for operation, change in (
        (
            "UpdateEndpointWeightsAndCapacities",
            {"DesiredWeightsAndCapacities": [{"VariantName": "blue", "DesiredWeight": 2, "DesiredInstanceCount": 3}]},
        ),
        ("UpdateEndpoint", {"EndpointConfigName": "a", "RetainAllVariantProperties": True}),
    ):
        workspace.store.change(Kind.ENDPOINT, "a", lambda told: told.update(serving))
        made = answer(workspace, operation, EndpointName="a", **change)
        told = answer(workspace, "DescribeEndpoint", EndpointName="a")
        assert (made["EndpointArn"], told["EndpointStatus"]) == (told["EndpointArn"], "Updating")


def test_the_training_jobs_of_a_tuning_job_are_listed(workspace):
    """23.1, 24.7."""
    make(workspace, Kind.TUNING_JOB)
    listed = answer(workspace, "ListTrainingJobsForHyperParameterTuningJob", HyperParameterTuningJobName="a")
    assert listed == {"TrainingJobSummaries": []}


def test_every_operation_is_called_here():
    """So that none is added whose answer nobody looks at."""
    called = {f"{verb}{kind}{s}" for kind in Kind for verb, s in (("Create", ""), ("Describe", ""), ("List", "s"))}
    called |= {f"Stop{kind}" for kind in Kind if kind.is_job} | {f"Delete{kind}" for kind in Kind}
    called |= {"UpdateEndpoint", "UpdateEndpointWeightsAndCapacities", "ListTrainingJobsForHyperParameterTuningJob"}
    assert OPERATIONS.keys() <= called


@pytest.mark.parametrize("kind", Kind)
def test_lists_of_every_kind_are_narrowed_sorted_and_cut_alike(workspace, kind):
    """23.1, 23.2."""
    for name in ("a", "Ab", "c"):
        make(workspace, kind, name)
    sorted_by_name = {"SortBy": "Name", "SortOrder": "Ascending"}
    assert sorted(names(workspace, kind, NameContains="A")) == ["Ab", "a"]
    assert names(workspace, kind, SortBy="CreationTime", SortOrder="Descending") == ["c", "Ab", "a"]
    first = answer(workspace, f"List{kind}s", MaxResults=2, **sorted_by_name)
    assert names(workspace, kind, MaxResults=2, NextToken=first["NextToken"], **sorted_by_name) == ["c"]
    for year, found in ((2020, 3), (2999, 0)):
        day = datetime(year, 1, 31, tzinfo=UTC)
        for time in (day, day.isoformat(), day.timestamp(), f"{year}-01-31"):
            assert len(names(workspace, kind, CreationTimeAfter=time)) == found
            assert len(names(workspace, kind, CreationTimeBefore=time)) == 3 - found
            if kind.has_status:
                assert len(names(workspace, kind, LastModifiedTimeAfter=time)) == found


def test_training_jobs_are_listed_by_their_warm_pool(workspace):
    """9.2, 23.1."""
    make(workspace, Kind.TRAINING_JOB)
    workspace.store.change(Kind.TRAINING_JOB, "a", lambda told: told.update(WarmPoolStatus={"Status": "InUse"}))
    assert names(workspace, Kind.TRAINING_JOB, WarmPoolStatusEquals="InUse") == ["a"]
    assert names(workspace, Kind.TRAINING_JOB, WarmPoolStatusEquals="Available") == []


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"CreationTimeAfter": "yesterday"}, "expected a time"),
        ({"NextToken": "abc"}, "pagination token"),
        ({"MaxResults": 0}, "maxResults"),
        ({"MaxResults": 101}, "maxResults"),
        ({"SortBy": "Colour"}, "enum value set"),
        ({"Colour": "blue"}, "Unknown parameter"),
    ],
)
def test_a_list_that_cannot_be_is_refused(workspace, kind, asked, words):
    """23.1, 23.2."""
    with pytest.raises(ValidationError, match=words):
        call(workspace, f"List{kind}s", asked)


def test_an_operation_that_is_not_played_is_told(workspace):
    with pytest.raises(UnknownOperationError, match="CreateNotebookInstance is not played here"):
        call(workspace, "CreateNotebookInstance", {})

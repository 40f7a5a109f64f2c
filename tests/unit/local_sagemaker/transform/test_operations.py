"""What CreateTransformJob refuses beyond its model, and the other operations on transform jobs."""

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.errors import ResourceNotFoundError, UsageError, ValidationError
from local_sagemaker.state.records import Kind

from tests.unit.local_sagemaker.transform.conftest import make_request


@pytest.fixture
def prepared(workspace):
    """A model and an object."""
    call(workspace, "CreateModel", {"ModelName": "model", "PrimaryContainer": {"Image": "anybody/model:1"}})
    workspace.buckets.put_bytes("s3://bucket/in/x.csv", b"1\n")
    return workspace


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB 101 is more than 100"),
        ({"MaxPayloadInMB": 6, "MaxConcurrentTransforms": 17}, "17 times MaxPayloadInMB 6 is more than 100 MB"),
        ({"uri": "s3://bucket/nothing/"}, 'No S3 objects found under S3 URL "s3://bucket/nothing/"'),
        ({"ModelName": "nobody"}, 'Could not find model "nobody"'),
        ({"kind": "AugmentedManifestFile"}, "AugmentedManifestFile is not supported"),
        ({"compression": "Bzip"}, "enum value set"),
        ({"DataProcessing": {"InputFilter": "$..x"}}, r"InputFilter: '\$..x' is not understood from '..x' on"),
        ({"DataProcessing": {"OutputFilter": "x"}}, r"OutputFilter: 'x' does not begin with \$"),
        ({"DataProcessing": {"InputFilter": "$.x"}}, r"InputFilter \$.x selects no columns"),
        ({"DataProcessing": {"JoinSource": "Input"}, "content_type": "image/png"}, "not image/png"),
        ({"DataProcessing": {"JoinSource": "Input"}, "accept": "application/json"}, "cannot join application/json"),
        ({"DataProcessing": {"InputFilter": "$[0]"}, "content_type": None}, "not None"),
        ({"DataProcessing": {"OutputFilter": "$[0]"}, "accept": "image/png"}, "not image/png"),
    ],
)
def test_a_request_that_could_only_fail_is_refused(prepared, request_, says):
    """15.36, 15.40, 23.6; nothing is recorded."""
    with pytest.raises(ValidationError, match=says):
        call(prepared, "CreateTransformJob", make_request() | make_request(**request_))
    assert prepared.store.find(Kind.TRANSFORM_JOB) == []


@pytest.mark.parametrize(
    "container",
    [
        {"Image": "i", "Mode": "MultiModel", "ModelDataUrl": "s3://bucket/in/"},
        {
            "Image": "i",
            "ModelDataSource": {
                "S3DataSource": {"S3Uri": "s3://bucket/in/", "S3DataType": "S3Prefix", "CompressionType": "None"}
            },
        },
    ],
)
def test_a_model_that_is_for_endpoints_only_is_refused(prepared, container):
    """13.7, 15.23: not for batch transform."""
    call(prepared, "CreateModel", {"ModelName": "other", "PrimaryContainer": container})
    with pytest.raises(ValidationError, match="which batch transform does not support"):
        call(prepared, "CreateTransformJob", make_request(ModelName="other"))


@pytest.mark.parametrize("manifest", [b"", b"{}", b"[]", b'["x"]', b'[{"prefix": 1}]', b'[{"prefix": "s3://b/"}, 2]'])
def test_what_is_no_manifest_is_refused(prepared, manifest):
    """23.6."""
    prepared.buckets.put_bytes("s3://bucket/manifest", manifest)
    with pytest.raises(UsageError, match="is no manifest"):
        call(prepared, "CreateTransformJob", make_request(kind="ManifestFile", uri="s3://bucket/manifest"))


def test_a_manifests_object_that_is_not_there_is_refused(prepared):
    """23.6."""
    prepared.buckets.put_bytes("s3://bucket/manifest", b'[{"prefix": "s3://bucket/in/"}, "y.csv"]')
    with pytest.raises(UsageError, match=r"s3://bucket/in/y\.csv: there is no such object"):
        call(prepared, "CreateTransformJob", make_request(kind="ManifestFile", uri="s3://bucket/manifest"))


def test_a_job_is_described_as_it_was_asked_for(prepared):
    """23.6."""
    request = make_request(split="Line", MaxPayloadInMB=2, DataProcessing={"InputFilter": "$[1:]"})
    made = call(prepared, "CreateTransformJob", request)
    told = call(prepared, "DescribeTransformJob", {"TransformJobName": "job"})
    assert made == {"TransformJobArn": told["TransformJobArn"]}
    assert made["TransformJobArn"].endswith(":transform-job/job")
    assert {key: told[key] for key in request} == request
    assert (told["TransformJobStatus"], "BatchStrategy" in told) == ("InProgress", False)


def test_jobs_are_listed_a_page_at_a_time(prepared):
    """23.1."""
    for name in ("a", "b", "c"):
        call(prepared, "CreateTransformJob", make_request(TransformJobName=f"job-{name}"))
    first = call(prepared, "ListTransformJobs", {"MaxResults": 2, "SortBy": "Name", "SortOrder": "Ascending"})
    assert [job["TransformJobName"] for job in first["TransformJobSummaries"]] == ["job-a", "job-b"]
    asked = {"MaxResults": 2, "SortBy": "Name", "SortOrder": "Ascending", "NextToken": first["NextToken"]}
    second = call(prepared, "ListTransformJobs", asked)
    assert [job["TransformJobName"] for job in second["TransformJobSummaries"]] == ["job-c"]
    assert "NextToken" not in second
    assert "ModelName" not in second["TransformJobSummaries"][0]


@pytest.mark.parametrize(
    ("asked", "found"),
    [({}, 1), ({"NameContains": "JO"}, 1), ({"NameContains": "x"}, 0), ({"StatusEquals": "Failed"}, 0),
     ({"CreationTimeAfter": 0}, 1), ({"CreationTimeBefore": 1}, 0), ({"LastModifiedTimeAfter": 4e9}, 0)],
)  # fmt: skip
def test_a_list_is_narrowed_as_asked(prepared, asked, found):
    """23.1."""
    call(prepared, "CreateTransformJob", make_request())
    assert len(call(prepared, "ListTransformJobs", asked)["TransformJobSummaries"]) == found


def test_a_job_that_is_not_there_can_neither_be_told_nor_stopped(workspace):
    """23.1."""
    for operation in ("DescribeTransformJob", "StopTransformJob"):
        with pytest.raises(ResourceNotFoundError):
            call(workspace, operation, {"TransformJobName": "nobody"})


def test_a_job_in_progress_can_be_stopped_and_one_that_ended_cannot(prepared):
    """23.1."""
    call(prepared, "CreateTransformJob", make_request())
    assert call(prepared, "StopTransformJob", {"TransformJobName": "job"}) == {}
    told = call(prepared, "DescribeTransformJob", {"TransformJobName": "job"})
    assert told["TransformJobStatus"] == "Stopping"
    prepared.store.change(Kind.TRANSFORM_JOB, "job", lambda it: it.update(TransformJobStatus="Completed"))
    with pytest.raises(ValidationError, match="in status Completed"):
        call(prepared, "StopTransformJob", {"TransformJobName": "job"})

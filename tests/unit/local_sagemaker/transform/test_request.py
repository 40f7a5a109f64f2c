"""What `byoc transform` makes of flags, files and names, without starting anything."""

import json
import tarfile
from datetime import datetime

import pytest
from local_sagemaker.api.operations import call
from local_sagemaker.cli import main
from local_sagemaker.errors import UsageError
from local_sagemaker.state.records import Kind
from local_sagemaker.transform.request import Sources, create, want

NOW = datetime(2026, 1, 31, 12, 1, 2, 345000)  # noqa: DTZ001 - names a job only


@pytest.fixture
def archive(tmp_path):
    """A model.tar.gz."""
    path = tmp_path / "model.tar.gz"
    with tarfile.open(path, "w:gz"):
        pass
    return path


@pytest.fixture
def rows(tmp_path):
    """A folder of rows."""
    (tmp_path / "rows" / "deep").mkdir(parents=True)
    (tmp_path / "rows" / "x.csv").write_bytes(b"1\n")
    (tmp_path / "rows" / "deep" / "y.csv").write_bytes(b"2\n")
    return tmp_path / "rows"


def wanted(workspace, said=(), document=(), **sources):
    sources = {"model": None, "input": None, "output": None, "image": "anybody/model:1"} | sources
    return want(workspace, Sources(**{k: v and str(v) for k, v in sources.items()}), dict(said), dict(document), NOW)


def test_a_folder_appears_in_a_bucket_and_nothing_is_copied(workspace, archive, rows):
    """23.6."""
    create(workspace, wanted(workspace, model=archive, input=rows))
    request = workspace.store.get(Kind.TRANSFORM_JOB, "project-20260131-120102-345").request
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    found = list(workspace.buckets.objects(source["S3Uri"]))
    assert [item.path.resolve() for item in found] == [rows / "deep" / "y.csv", rows / "x.csv"]
    assert request["TransformInput"]["ContentType"] == "text/csv"


def test_a_single_file_is_the_prefix_itself(workspace, archive, rows):
    """23.6."""
    request = wanted(workspace, model=archive, input=rows / "x.csv").request
    assert request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"].endswith("/input/x.csv")


def test_outputs_go_straight_to_a_folder(workspace, archive, rows, tmp_path):
    """15.38: also those of a job that outlives the command."""
    job = wanted(workspace, model=archive, input=rows, output=tmp_path / "out")
    create(workspace, job)
    workspace.buckets.put_bytes(f"{job.request['TransformOutput']['S3OutputPath']}/deep/y.csv.out", b"2")
    assert (tmp_path / "out" / "deep" / "y.csv.out").read_bytes() == b"2"


def test_a_model_is_made_of_an_archive(workspace, archive, rows):
    """23.6: and is gone again where the job is refused."""
    job = wanted(workspace, model=archive, input=rows)
    assert job.model["PrimaryContainer"]["Image"] == "anybody/model:1"
    job.request["MaxPayloadInMB"] = 101
    with pytest.raises(UsageError, match="more than 100"):
        create(workspace, job)
    assert workspace.store.find() == []
    assert list(workspace.buckets.objects(f"s3://{workspace.default_bucket}/")) == []


def test_a_model_and_a_training_job_go_by_their_names(workspace, archive, rows):
    """23.6."""
    call(workspace, "CreateModel", {"ModelName": "mine", "PrimaryContainer": {"Image": "anybody/model:1"}})
    assert wanted(workspace, model="mine", input=rows).model is None
    kept = workspace.directory_of(Kind.TRAINING_JOB, "trained")
    kept.mkdir(parents=True)
    archive.rename(kept / "model.tar.gz")
    trained = wanted(workspace, model="trained", input=rows)
    assert kept / "model.tar.gz" in trained.links.values()


def test_a_model_that_is_not_there_is_refused(workspace, rows):
    """23.6."""
    with pytest.raises(UsageError, match="there is no model nobody"):
        wanted(workspace, model="nobody", input=rows)


def test_flags_win_over_the_document(workspace, archive):
    """23.6."""
    document = {
        "TransformJobName": "of-the-document",
        "ModelName": "mine",
        "MaxPayloadInMB": 2,
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/in"}},
            "ContentType": "text/csv",
        },
        "TransformOutput": {"S3OutputPath": "s3://bucket/out", "Accept": "text/csv"},
    }
    job = wanted(workspace, {"MaxPayloadInMB": 3, "TransformInput": {"SplitType": "Line"}}, document)
    assert job.name == "of-the-document"
    assert (job.request["MaxPayloadInMB"], job.model, job.links) == (3, None, {})
    assert job.request["TransformInput"] == document["TransformInput"] | {"SplitType": "Line"}
    assert job.request["TransformOutput"] == document["TransformOutput"]


def test_an_input_is_needed(workspace, archive):
    """23.6."""
    with pytest.raises(UsageError, match="nothing is said of the input"):
        wanted(workspace, model=archive)
    with pytest.raises(UsageError, match="there is no /nowhere"):
        wanted(workspace, model=archive, input="/nowhere")


def test_every_flag_has_its_place_in_the_request(workspace, archive, rows, capsys):
    """23.6; nothing is recorded by a dry run."""
    flags = [
        "--job-name=j", "--content-type=text/csv", "--accept=text/csv", "--compression=Gzip", "--split-type=Line",
        "--strategy=SingleRecord", "--assemble-with=Line", "--max-payload=2", "--max-concurrent=3", "--instances=2",
        "--input-filter=$[1:]", "--output-filter=$[0]", "--join", "--timeout=9", "--retries=1", "--env=A=B",
        "--dry-run", "--json",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main(["transform", "--project", str(workspace.root), "--model", str(archive), "--input", str(rows), *flags])
    assert ended.value.code == 0
    request = json.loads(capsys.readouterr().out)["CreateTransformJob"]
    place = f"s3://{workspace.default_bucket}/j"
    assert request == {
        "TransformJobName": "j",
        "ModelName": "j",
        "MaxConcurrentTransforms": 3,
        "MaxPayloadInMB": 2,
        "BatchStrategy": "SingleRecord",
        "Environment": {"A": "B"},
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": 9, "InvocationsMaxRetries": 1},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{place}/input/"}},
            "ContentType": "text/csv",
            "CompressionType": "Gzip",
            "SplitType": "Line",
        },
        "TransformOutput": {"S3OutputPath": f"{place}/output", "Accept": "text/csv", "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 2},
        "DataProcessing": {"InputFilter": "$[1:]", "OutputFilter": "$[0]", "JoinSource": "Input"},
    }
    assert workspace.store.find() == []


def test_what_the_service_refuses_ends_the_command_with_2(workspace, archive, rows, capsys):
    """23.6: in its words, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(["transform", "--project", str(workspace.root), "--model", str(archive), "--input", str(rows),
              "--job-name", "no_underscores", "--dry-run"])  # fmt: skip
    assert ended.value.code == 2
    assert "at 'transformJobName' failed to satisfy constraint" in capsys.readouterr().err

"""The channels of a request: what is read, what the service refuses, and what the container is told."""

import pytest
from local_sagemaker.errors import ValidationError
from local_sagemaker.training.channels import Channel, read_channels


def request(*channels, mode="File"):
    return {"AlgorithmSpecification": {"TrainingInputMode": mode}, "InputDataConfig": list(channels)}


def channel(name="train", *, source=None, **options):
    data = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/train/", **(source or {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": data}, **options}


def test_a_channels_own_mode_wins_over_the_jobs():
    """3.2."""
    first, second = read_channels(request(channel("a"), channel("b", InputMode="FastFile"), mode="Pipe"))
    assert (first.mode, second.mode) == ("Pipe", "FastFile")


def test_fast_file_channels_are_called_file_and_a_content_type_is_told_only_when_there_is_one():
    """2.5, 2.6."""
    (fast,) = read_channels(request(channel(InputMode="FastFile")))
    (typed,) = read_channels(request(channel(ContentType="text/csv", InputMode="Pipe", RecordWrapperType="RecordIO")))
    assert fast.described() == {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    assert typed.described()["ContentType"] == "text/csv"
    assert typed.described()["RecordWrapperType"] == "RecordIO"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (channel(RecordWrapperType="RecordIO"), "RecordIO needs the input mode Pipe"),
        (channel(CompressionType="Gzip"), "Gzip needs the input mode Pipe"),
        (channel(InputMode="FastFile", source={"S3DataType": "ManifestFile"}), "FastFile needs S3DataType S3Prefix"),
        (channel(source={"S3DataType": "AugmentedManifestFile"}), "AugmentedManifestFile needs the input mode Pipe"),
        (channel(InputMode="Pipe", source={"S3DataType": "AugmentedManifestFile"}), "needs AttributeNames"),
        (channel(source={"S3DataType": "Converse"}), "Converse is not played here"),
        ({**channel(), "ChannelName": ".."}, "leads out of /opt/ml/input/data"),
        ({"ChannelName": "x", "DataSource": {"FileSystemDataSource": {}}}, "only S3DataSource is played here"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong, words):
    """3.4, 3.7, 3.11: the model of the service lets it through, the service does not."""
    with pytest.raises(ValidationError, match=words):
        read_channels(request(wrong))


def test_a_name_is_that_of_one_channel():
    with pytest.raises(ValidationError, match="train is there 2 times"):
        read_channels(request(channel(), channel()))


def test_a_channel_may_be_for_some_instance_groups_only():
    """2.13."""
    (limited,) = read_channels(request(channel(source={"InstanceGroupNames": ["gpu"]})))
    assert (limited.is_for("gpu"), limited.is_for("cpu")) == (True, False)
    assert Channel("all").is_for("cpu")

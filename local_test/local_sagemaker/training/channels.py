"""The channels of a job as its request has them: where the data is, who gets which part of it, and in which mode.

Source: SageMaker developer guide, "How SageMaker AI Provides Training Information", "Setting up training jobs to access
datasets" and "Augmented Manifest Files"; API reference, Channel and S3DataSource.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from local_sagemaker.errors import ValidationError

Mode = Literal["File", "FastFile", "Pipe"]
DataType = Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile"]
Distribution = Literal["FullyReplicated", "ShardedByS3Key"]


@dataclass(frozen=True)
class Channel:
    """One channel.

    Attributes:
        uri: the prefix, or the manifest, in S3.
        groups: the instance groups that get it; none means all.
        attributes: of an augmented manifest, in the order wanted.
        seed: with one the objects come in another order in each pass.
        folder: the user's own folder that ``uri`` shows, if it is one.
    """

    name: str
    uri: str = ""
    mode: Mode = "File"
    data_type: DataType = "S3Prefix"
    distribution: Distribution = "FullyReplicated"
    groups: tuple[str, ...] = ()
    content_type: str | None = None
    record_wrapper: Literal["None", "RecordIO"] = "None"
    compression: Literal["None", "Gzip"] = "None"
    attributes: tuple[str, ...] = ()
    seed: int | None = None
    folder: Path | None = None

    def is_for(self, group: str) -> bool:
        """Whether the hosts of an instance group get it."""
        return not self.groups or group in self.groups

    def described(self) -> dict[str, str]:
        """Its part of ``inputdataconfig.json``; the platform calls FastFile channels File there."""
        content_type = {} if self.content_type is None else {"ContentType": self.content_type}
        return {
            "TrainingInputMode": "Pipe" if self.mode == "Pipe" else "File",
            "S3DistributionType": self.distribution,
            "RecordWrapperType": self.record_wrapper,
            **content_type,
        }


def read_channels(request: Mapping[str, Any], folders: Mapping[str, Path] | None = None) -> tuple[Channel, ...]:
    """The channels of a CreateTrainingJob request, by name.

    Args:
        request: the document.
        folders: the user's own folders by channel, where an address in S3 only shows one.

    Raises:
        ValidationError: if the service would refuse a channel, or it is of a kind that is not played here.
    """
    default = request.get("AlgorithmSpecification", {}).get("TrainingInputMode", "File")
    channels = [_read_channel(one, default) for one in request.get("InputDataConfig", [])]
    names = [channel.name for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise ValidationError(f"Channel names must be unique: {name} is there {names.count(name)} times")
    known = folders or {}
    return tuple(
        replace(channel, folder=known.get(channel.name)) for channel in sorted(channels, key=lambda one: one.name)
    )


def _read_channel(document: Mapping[str, Any], default_mode: Mode) -> Channel:
    name = document["ChannelName"]
    source = document.get("DataSource", {}).get("S3DataSource")
    if source is None:
        raise ValidationError(
            f"Channel {name}: only S3DataSource is played here",
            "put the data into the local buckets, or give a folder: --channel NAME=DIR",
        )
    channel = Channel(
        name=name,
        uri=source["S3Uri"],
        mode=document.get("InputMode", default_mode),
        data_type=source["S3DataType"],
        distribution=source.get("S3DataDistributionType", "FullyReplicated"),
        groups=tuple(source.get("InstanceGroupNames", ())),
        content_type=document.get("ContentType"),
        record_wrapper=document.get("RecordWrapperType", "None"),
        compression=document.get("CompressionType", "None"),
        attributes=tuple(source.get("AttributeNames", ())),
        seed=document.get("ShuffleConfig", {}).get("Seed"),
    )
    _check(channel)
    return channel


def _check(channel: Channel) -> None:
    """Raise ValidationError for what the model of the service lets through and the service does not."""
    wrong = {
        "the name leads out of /opt/ml/input/data": not channel.name.strip("."),
        "RecordWrapperType RecordIO needs the input mode Pipe": channel.record_wrapper == "RecordIO"
        and channel.mode != "Pipe",
        "CompressionType Gzip needs the input mode Pipe": channel.compression == "Gzip" and channel.mode != "Pipe",
        "the input mode FastFile needs S3DataType S3Prefix": channel.mode == "FastFile"
        and channel.data_type != "S3Prefix",
        "S3DataType AugmentedManifestFile needs the input mode Pipe": channel.data_type == "AugmentedManifestFile"
        and channel.mode != "Pipe",
        "S3DataType AugmentedManifestFile needs AttributeNames": channel.data_type == "AugmentedManifestFile"
        and not channel.attributes,
        f"S3DataType {channel.data_type} is not played here": channel.data_type
        not in {"S3Prefix", "ManifestFile", "AugmentedManifestFile"},
    }
    for sentence in (sentence for sentence, applies in wrong.items() if applies):
        raise ValidationError(f"Channel {channel.name}: {sentence}")

"""Which objects a host gets of a channel, and under which names. Nothing is copied here."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_sagemaker.errors import JobFailedError, NoSuchObjectError, UsageError
from local_sagemaker.state.buckets import Buckets, split_uri
from local_sagemaker.training.channels import Channel


class ChannelDataError(JobFailedError):
    """The platform cannot bring a channel's data: the job fails before it starts. The message is its failure reason."""

    def __init__(self, sentence: str) -> None:
        super().__init__(f"ClientError: {sentence}")


@dataclass(frozen=True)
class Item:
    """One object of a channel: its file, and its path below the channel's folder."""

    path: Path
    name: str


@dataclass(frozen=True)
class Share:
    """The part of a channel that one host gets: every ``count``-th object from the ``index``-th on."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[Any]) -> list[Any]:
        """That part of ``items``."""
        return list(items[self.index :: self.count])


def share_of(channel: Channel, host: str, hosts: Sequence[str]) -> Share:
    """The share of ``host`` among the hosts that get the channel."""
    return Share(hosts.index(host), len(hosts)) if channel.distribution == "ShardedByS3Key" else Share()


def find_items(channel: Channel, buckets: Buckets) -> list[Item]:
    """All objects of a channel that is no augmented manifest, in the order of their keys or of the manifest.

    Raises:
        ChannelDataError: if there are none, or the manifest is none.
    """
    items = _listed(channel, buckets) if channel.data_type == "ManifestFile" else list(_below(channel.uri, buckets))
    if not items:
        raise ChannelDataError(
            f'Data download failed: no S3 objects found under S3 URL "{channel.uri}" given in input data source '
            f"of channel {channel.name} (on this machine: {buckets.path(channel.uri)})"
        )
    return items


def find_samples(channel: Channel, buckets: Buckets) -> list[tuple[bytes | Path, ...]]:
    """The samples of an augmented manifest: of each the wanted attributes in the wanted order, references as files.

    Raises:
        ChannelDataError: if a line lacks an attribute, or a reference leads nowhere.
    """
    # Not splitlines: a line separator of Unicode may stand in a line as it is.
    lines = _read(channel, buckets).decode("utf-8", errors="replace").split("\n")
    return [_sample(channel, buckets, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def in_pass(channel: Channel, items: Sequence[Any], share: Share, number: int = 0) -> list[Any]:
    """A host's part of ``items`` in one pass: with a seed in an order of that pass, which all hosts agree on."""
    ordered = list(items)
    if channel.seed is not None:
        random.Random(f"{channel.seed}:{number}").shuffle(ordered)  # noqa: S311 - an order, no secret
    return share.of(ordered)


def _below(prefix: str, buckets: Buckets) -> Iterator[Item]:
    _, key = split_uri(prefix)
    for found in buckets.objects(prefix):
        rest = found.key[len(key) :]
        if key.endswith("/") or not key:
            name = rest
        elif rest.startswith("/"):
            name = rest[1:]
        else:  # part of a name: all of the last part of the key stays
            name = found.key[len(key.rpartition("/")[0]) :].lstrip("/")
        yield Item(found.path, name)


def _listed(channel: Channel, buckets: Buckets) -> list[Item]:
    try:
        document = json.loads(_read(channel, buckets))
        prefix, names = document[0]["prefix"], [str(name) for name in document[1:]]
    except (ValueError, LookupError, TypeError) as error:
        raise ChannelDataError(
            f'the manifest "{channel.uri}" of channel {channel.name} is not a JSON array that begins with '
            f'{{"prefix": "s3://..."}}: {error}'
        ) from error
    # A prefix may end without the slash that the names then begin with.
    return [Item(_file(channel, buckets, f"{prefix}{name}"), name.lstrip("/")) for name in names]


def _sample(channel: Channel, buckets: Buckets, number: int, line: str) -> tuple[bytes | Path, ...]:
    try:
        document: Mapping[str, Any] = json.loads(line)
        values = [document[name] for name in channel.attributes]
    except (ValueError, LookupError, TypeError) as error:
        raise ChannelDataError(
            f'line {number} of the augmented manifest "{channel.uri}" of channel {channel.name} has no such '
            f"attribute, or is no JSON object: {error}"
        ) from error
    return tuple(
        _file(channel, buckets, str(value)) if name.endswith("-ref") else _as_bytes(value)
        for name, value in zip(channel.attributes, values, strict=True)
    )


def _as_bytes(value: Any) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value)).encode()


def _file(channel: Channel, buckets: Buckets, uri: str) -> Path:
    try:
        path = buckets.path(uri)
    except UsageError as error:
        raise ChannelDataError(f"channel {channel.name}: {error.happened}") from error
    if not path.is_file():
        raise ChannelDataError(
            f'Data download failed: S3 key "{uri}" of channel {channel.name} does not exist (on this machine: {path})'
        )
    return path


def _read(channel: Channel, buckets: Buckets) -> bytes:
    try:
        return buckets.read_bytes(channel.uri)
    except NoSuchObjectError as error:
        raise ChannelDataError(
            f'Data download failed: the manifest "{channel.uri}" of channel {channel.name} does not exist '
            f"(on this machine: {os.fspath(buckets.path(channel.uri))})"
        ) from error

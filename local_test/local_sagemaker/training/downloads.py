"""Channels of files, put together for each host before it starts.

A channel that is just a folder of the user's is mounted as it is. Of anything else, a prefix of the local S3, a
manifest, a part of the objects, a folder with links to the objects is made; where the engine cannot lay the job's
changes over it, with copies of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from local_sagemaker.engines.base import Engine
from local_sagemaker.training.channel_data import ChannelDataError, Item, find_items, in_pass
from local_sagemaker.training.training_job import TrainingJob


def show_folders(job: TrainingJob) -> None:
    """Let the user's own folders appear in the local S3, at the addresses that the request names."""
    for channel in job.channels:
        if channel.folder is not None:
            job.buckets.link(channel.uri.rstrip("/"), channel.folder)
    if job.checkpoint_uri is not None:
        place = job.checkpoint_store or job.directory / "checkpoints"
        uri = job.checkpoint_uri.rstrip("/")
        if job.buckets.path(uri) != place:
            place.mkdir(parents=True, exist_ok=True)
            job.buckets.link(uri, place)


def download_channels(job: TrainingJob, engine: Engine) -> None:
    """Make each host's channels of files.

    Raises:
        ChannelDataError: if a channel has no data.
    """
    may_link = engine.name != "process"
    for channel in job.channels:
        if channel.mode == "Pipe":
            continue
        items: list[Item] | None = None
        for host in job.hosts:
            for mine, share in job.channels_of(host):
                if mine is not channel:
                    continue
                if job.own_folder(channel, share) is None:
                    items = items if items is not None else find_items(channel, job.buckets)
                    gather(in_pass(channel, items, share), job.gathered(host, channel), may_link)


def gather(items: list[Item], folder: Path, may_link: bool) -> None:
    """Make a folder of objects: of links to them, or of copies.

    Raises:
        ChannelDataError: if one object's name is the folder of another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for item in items:
        place = folder / item.name
        if place.exists():
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _bring(item.path, place, may_link)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ChannelDataError(
                f"Data download failed: {item.name} cannot be a file and a folder in one channel"
            ) from error


def _bring(source: Path, place: Path, may_link: bool) -> None:
    if may_link:
        try:
            os.link(source.resolve(), place)
        except OSError:  # on another file system
            pass
        else:
            return
    shutil.copyfile(source, place)

"""The containers of a training job: their mounts, their network, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Mount, NetworkPlan
from local_sagemaker.state.workspace import container_name
from local_sagemaker.training.channel_data import Share
from local_sagemaker.training.channels import Channel
from local_sagemaker.training.training_job import OUTPUT, SyncedFolder, TrainingJob
from local_sagemaker.training.warm_pool import CACHE


def plan_network(job: TrainingJob) -> NetworkPlan | None:
    """The network on which the job's hosts find each other, or None for a host that is alone."""
    if job.is_alone:
        return None
    # Isolated hosts of one job reach each other all the same: the platform says so.
    return NetworkPlan(container_name("train", job.labels, job.name), job.hosts, job.network == "none", job.labels)


def plan_containers(job: TrainingJob, addresses: Mapping[str, str] | None = None) -> dict[str, ContainerPlan]:
    """The container of each host; ``addresses`` are those of all hosts, once there is a network."""
    return {host: replace(plan_container(job, host), addresses=addresses or {}) for host in job.hosts}


def plan_container(job: TrainingJob, host: str) -> ContainerPlan:
    """One host's container. Folders are mounted one by one, never all of /opt/ml, so the image's files stay seen."""
    directory = job.host_directory(host)
    mounts = [Mount(directory / "input", f"{BASE_DIR}/input")]
    mounts += [
        plan_channel(job, host, channel, share) for channel, share in job.channels_of(host) if channel.mode != "Pipe"
    ]
    mounts += [Mount(directory / part, f"{BASE_DIR}/{part}") for part in ("model", "output")]
    mounts.append(Mount(directory / "checkpoints", job.checkpoint_path))
    mounts += [
        Mount(directory / "synced" / folder.name, folder.target)
        for folder in job.synced
        if not folder.target.startswith(f"{OUTPUT}/")
    ]
    if job.warm_pool is not None:
        mounts.append(Mount(job.warm_pool.cache(host), CACHE))
    if job.code is not None:
        mounts.append(Mount(directory / "code", f"{BASE_DIR}/code"))
    network = plan_network(job)
    return ContainerPlan(
        name=container_name("train", job.labels, job.name, *([] if job.is_alone else [host])),
        command="train",
        image=job.image,
        base_directory=directory,
        environment=job.environment,
        mounts=tuple(mounts),
        hostname=host,
        network=network.name if network else job.network,
        labels=job.labels,
        limits=job.limits,
        entrypoint=job.entrypoint,
        arguments=job.arguments,
    )


def plan_channel(job: TrainingJob, host: str, channel: Channel, share: Share) -> Mount:
    """How a host sees a channel of files.

    In File mode a job may write to its channel, for on the platform it has a copy. Here it has what is there already,
    with a folder of its own laid over it that takes its changes; so gigabytes are ready at once.
    """
    source = job.own_folder(channel, share) or job.gathered(host, channel)
    changes = job.host_directory(host) / "changes" / channel.name
    target = f"{BASE_DIR}/input/data/{channel.name}"
    if channel.mode == "FastFile":
        return Mount(source, target, read_only=True)
    return Mount(source, target, changes=changes)


def synced_folder(job: TrainingJob, host: str, folder: SyncedFolder) -> Path:
    """Where a synced folder of a host lies on this machine."""
    if folder.target.startswith(f"{OUTPUT}/"):
        return job.host_directory(host) / "output" / folder.target.removeprefix(f"{OUTPUT}/")
    return job.host_directory(host) / "synced" / folder.name

"""``byoc train``."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_argument,
)
from local_sagemaker.cli.output import choose, emit, json_ready, log_stream
from local_sagemaker.engines import EngineName, Limits
from local_sagemaker.errors import JobFailedError
from local_sagemaker.names import parse_pairs, parse_size
from local_sagemaker.progress import say
from local_sagemaker.project import read_project
from local_sagemaker.training.cluster import INSTANCE_TYPE, MAX_HOSTS, parse_groups
from local_sagemaker.training.distribution import SWITCH, Distribution, distribution_hyperparameters
from local_sagemaker.training.job import (
    AFTER_FAILURE_SECONDS,
    DEFAULT_MAX_RUNTIME_SECONDS,
    plan_containers,
    plan_network,
    plan_training_job,
    run_training_job,
)

if TYPE_CHECKING:
    from local_sagemaker.engines import Engine
    from local_sagemaker.training.job import TrainingJob

DISTRIBUTIONS = click.Choice(["none", *SWITCH])


@click.command()
@project_argument
@image_option
@engine_option
@click.option("--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="Wins over the file.")
@click.option(
    "--channel", "channels", metavar="NAME=DIR", multiple=True, help="A folder of data; wins over the project's."
)
@click.option("--job-name", help="By default made of the project's name and the time.")
@env_option
@click.option("--max-runtime", type=float, default=DEFAULT_MAX_RUNTIME_SECONDS, show_default=True, help="Seconds.")
@click.option(
    "--network",
    type=click.Choice(["none", "bridge"]),
    default="bridge",
    show_default=True,
    help="none isolates the job.",
)
@click.option(
    "--hosts", type=click.IntRange(1, MAX_HOSTS), default=1, show_default=True, help="Containers named algo-N."
)
@click.option("--distribution", type=DISTRIBUTIONS, default="none", help="As an SDK asks for it, by hyperparameters.")
@click.option("--processes-per-host", type=click.IntRange(min=1), help="By default the launcher's choice.")
@click.option("--instance-type", default=INSTANCE_TYPE, show_default=True, help="What resourceconfig.json says.")
@click.option(
    "--instance-groups", metavar="NAME=HOSTS[:TYPE],...", help="A heterogeneous cluster, in place of --hosts."
)
@click.option(
    "--checkpoints", type=click.Path(path_type=Path), metavar="DIR", help="Plays the checkpoints' place in S3."
)
@click.option(
    "--after-failure",
    type=float,
    default=AFTER_FAILURE_SECONDS,
    show_default=True,
    help="Seconds that the other hosts get.",
)
@click.option("--shm-size", default="64m", show_default=True, help="Of each host's /dev/shm; the platform has 64m.")
@click.option("--memory", help="Of each host, such as 2g; by default this machine's.")
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="Of each host; by default this machine's.")
@dry_run_option
@json_option
def train(  # noqa: PLR0917 - click passes each by name
    project: Path,
    image: str,
    engine: EngineName,
    hyperparameters: tuple[str, ...],
    channels: tuple[str, ...],
    job_name: str | None,
    environment: tuple[str, ...],
    max_runtime: float,
    network: str,
    hosts: int,
    distribution: Distribution,
    processes_per_host: int | None,
    instance_type: str,
    instance_groups: str | None,
    checkpoints: Path | None,
    after_failure: float,
    shm_size: str,
    memory: str | None,
    cpus: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run one training job of PROJECT; its files go to PROJECT/.byoc/jobs/JOB."""
    folders = {name: Path(folder) for name, folder in parse_pairs(channels, "--channel").items()}
    chosen_by_user = parse_pairs(hyperparameters, "--hyperparameter")
    sent = distribution_hyperparameters(distribution, processes_per_host) | chosen_by_user
    memory_bytes = None if memory is None else parse_size(memory, "--memory")
    job = plan_training_job(
        read_project(project, sent, folders),
        os.environ,
        datetime.now().astimezone(),
        image=image,
        name=job_name,
        environment=parse_pairs(environment, "--env"),
        max_runtime_seconds=max_runtime,
        after_failure_seconds=after_failure,
        network=network,
        session=uuid.uuid4().hex,
        hosts=hosts,
        instance_type=instance_type,
        instance_groups=parse_groups(instance_groups) if instance_groups is not None else (),
        limits=Limits(parse_size(shm_size, "--shm-size"), memory_bytes, cpus),
        checkpoints=checkpoints,
    )
    chosen = choose(engine, network)
    if dry_run:
        commands = describe_training_job(job, chosen)
        emit({"engine": chosen.name, "job": json_ready(asdict(job)), "commands": commands}, as_json, *commands)
        return
    result = run_training_job(job, chosen, log_stream(as_json), say)
    if as_json:
        print(json.dumps(result.document(), indent=2))
    say(f"{result.job_name}: {result.secondary_status} after {result.training_seconds:.1f} s, see {result.directory}")
    if result.status == "Failed":
        raise JobFailedError(
            f"training job {result.job_name} failed: {result.failure_reason}",
            f"exit code {result.exit_code}",
            f"the log is {result.log_file}",
        )


def describe_training_job(job: TrainingJob, engine: Engine) -> list[str]:
    """The shell commands that a job amounts to: one for its network, where it has one, and one for each host."""
    network = plan_network(job)
    made = [engine.describe_network(network)] if network is not None else []
    return [*made, *(engine.describe(plan) for plan in plan_containers(job).values())]

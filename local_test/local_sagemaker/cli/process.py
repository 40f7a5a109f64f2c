"""``byoc process``."""

from __future__ import annotations

import shlex
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.api.documents import merge
from local_sagemaker.api.validation import validate
from local_sagemaker.cli.documents import read_document
from local_sagemaker.cli.number import Number
from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_option,
    request_option,
)
from local_sagemaker.cli.output import choose, emit, json_ready, log_stream
from local_sagemaker.cli.train import said_options
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import Limits
from local_sagemaker.errors import JobFailedError, UsageError
from local_sagemaker.names import check_environment_key, check_job_name, make_job_name, parse_pairs, parse_size
from local_sagemaker.processing.operations import create_processing_job, describe_processing_job
from local_sagemaker.processing.plan import ProcessingJob, plan_containers, plan_network, plan_processing_job
from local_sagemaker.processing.request import (
    Place,
    ProcessingFlags,
    default_request,
    flags_request,
    parse_inputs,
    parse_outputs,
)
from local_sagemaker.progress import say
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind
from local_sagemaker.state.runner import run, start_detached
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.training.cluster import GROUP_NAME, INSTANCE_TYPE, MAX_HOSTS
from local_sagemaker.training.local_options import LocalOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.engines import Engine


@click.command(
    cls=Verb,
    examples=(
        "byoc process --entrypoint 'python3 /opt/ml/processing/in/clean.py' --input data=rows:/opt/ml/processing/in",
        "byoc process --request processing-job.yaml",
    ),
)
@click.argument("arguments", nargs=-1)
@project_option
@request_option
@image_option
@engine_option
@click.option("--entrypoint", help="In place of the image's, such as 'python3 /opt/ml/processing/code/run.py'.")
@click.option(
    "--input", "inputs", metavar="NAME=DIR|s3://...:/opt/ml/processing/...", multiple=True, help="A folder of data."
)
@click.option(
    "--output", "outputs", metavar="NAME=/opt/ml/processing/...[:DIR|s3://...]", multiple=True, help="Kept at the end."
)
@click.option("--sharded", metavar="INPUT", multiple=True, help="Each host gets a part of this input's objects.")
@click.option("--continuous", metavar="OUTPUT", multiple=True, help="This output is kept while the job runs, too.")
@click.option("--job-name", help="By default made of the project's name and the time.")
@env_option
@click.option("--hosts", type=click.IntRange(1, MAX_HOSTS), help="Containers named algo-N; 1 if unsaid.")
@click.option("--instance-type", default=INSTANCE_TYPE, show_default=True, help="What resourceconfig.json says.")
@click.option("--max-runtime", type=click.IntRange(min=1), help="Seconds; 86400 if unsaid.")
@click.option("--network", type=click.Choice(["none", "bridge"]), help="none isolates the job; bridge if unsaid.")
@click.option("--shm-size", default="64m", show_default=True, help="Of each host's /dev/shm.")
@click.option("--memory", help="Of each host, such as 2g; by default this machine's.")
@click.option("--cpus", type=Number(min=0, min_open=True), help="Of each host; by default this machine's.")
@click.option("--gpus", help="Of each host: all, a number, or device=0,1.")
@click.option("--detach", is_flag=True, help="Print the job's name and let it run on.")
@dry_run_option
@json_option
@click.pass_context
def process(context: click.Context, /, arguments: tuple[str, ...], project: Path, **given: Any) -> None:
    """Run one processing job; ARGUMENTS, after --, are the container's."""
    as_json: bool = given["as_json"]
    document = read_document(given["request_file"], "CreateProcessingJob")
    said = given if document is None else said_options(context, given)
    workspace = Workspace.of(project)
    inputs, outputs = parse_inputs(said["inputs"]), parse_outputs(said["outputs"])
    flags = ProcessingFlags(
        image=said["image"],
        entrypoint=tuple(shlex.split(said["entrypoint"] or "")),
        arguments=arguments,
        inputs=inputs,
        outputs=outputs,
        sharded=_known(said["sharded"], inputs, "--sharded"),
        continuous=_known(said["continuous"], outputs, "--continuous"),
        environment={
            check_environment_key(key): value for key, value in parse_pairs(said["environment"], "--env").items()
        },
        hosts=said["hosts"],
        instance_type=said["instance_type"],
        max_runtime_seconds=said["max_runtime"],
        network=said["network"],
    )
    wanted = said["job_name"] or (document or {}).get("ProcessingJobName")
    name = check_job_name(wanted) if wanted else make_job_name(workspace.root.name, datetime.now().astimezone())
    known = default_request(name) if document is None else document
    request = merge(known, flags_request(flags, workspace, name, known))
    options = _options(said, inputs)
    validate("CreateProcessingJob", request)
    job = plan_processing_job(request, workspace, options)
    chosen = choose(given["engine"], job.network)
    if given["dry_run"]:
        commands = describe(job, chosen)
        emit({"engine": chosen.name, "request": json_ready(request), "commands": commands}, as_json, *commands)
        return
    reconcile(workspace)
    create_processing_job(workspace, request, options)
    for place in outputs:
        if place.folder is not None:
            place.folder.mkdir(parents=True, exist_ok=True)
            uri = next(one.uri for one in job.outputs if one.name == place.name)
            workspace.buckets.link(uri, place.folder)
    if given["detach"]:
        start_detached(workspace, given["engine"], Kind.PROCESSING_JOB, name)
        emit({"ProcessingJobName": name, "ProcessingJobArn": job.arn}, as_json, name)
        return
    try:
        run(workspace, chosen, Kind.PROCESSING_JOB, name, log_stream(as_json), say)
    except KeyboardInterrupt:
        tell(workspace, job, as_json)
        raise
    tell(workspace, job, as_json)


def tell(workspace: Workspace, job: ProcessingJob, as_json: bool) -> None:
    """Print how a job ended.

    Raises:
        JobFailedError: if it failed.
    """
    described = describe_processing_job(workspace, {"ProcessingJobName": job.name})
    emit(described, as_json)
    status = described["ProcessingJobStatus"]
    message = " ".join(described.get("ExitMessage", "").split())
    say(f"{job.name}: {status}{f' ({message})' if message else ''}, see {job.directory}")
    for output in job.outputs:
        say(f"output {output.name}: {output.uri}, {job.buckets.path(output.uri).resolve()}")
    if status == "Failed":
        raise JobFailedError(
            f"processing job {job.name} failed: {described.get('FailureReason', '')}", "", f"the log is {job.log_file}"
        )


def describe(job: ProcessingJob, engine: Engine) -> list[str]:
    """The shell commands that a job amounts to."""
    network = plan_network(job)
    made = [engine.describe_network(network)] if network is not None else []
    return [*made, *(engine.describe(plan) for plan in plan_containers(job).values())]


def _options(said: Mapping[str, Any], inputs: tuple[Place, ...]) -> LocalOptions:
    memory, kind = said["memory"], said["instance_type"]
    return LocalOptions(
        folders={place.name: place.folder for place in inputs if place.folder is not None},
        limits=Limits(
            parse_size(said["shm_size"] or "64m", "--shm-size"),
            None if memory is None else parse_size(memory, "--memory"),
            said["cpus"],
            said["gpus"],
        ),
        types={} if kind is None or kind.startswith("ml.") else {GROUP_NAME: kind},
        session=uuid.uuid4().hex,
    )


def _known(names: tuple[str, ...], places: tuple[Place, ...], option: str) -> frozenset[str]:
    there = {place.name for place in places}
    for name in names:
        if name not in there:
            raise UsageError(f"{option} {name}", f"expected one of {', '.join(sorted(there)) or 'none'}", "correct it")
    return frozenset(names)

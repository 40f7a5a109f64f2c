"""``byoc transform``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from local_sagemaker.cli.documents import read_document
from local_sagemaker.cli.names_of_resources import names_of
from local_sagemaker.cli.options import (
    dry_run_option,
    engine_option,
    env_option,
    image_option,
    json_option,
    project_option,
    request_option,
)
from local_sagemaker.cli.output import choose, emit, log_stream
from local_sagemaker.cli.verb import Verb
from local_sagemaker.engines import EngineName
from local_sagemaker.errors import JobFailedError
from local_sagemaker.names import parse_pairs
from local_sagemaker.progress import say
from local_sagemaker.state.reconcile import reconcile
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.runner import run, start_detached
from local_sagemaker.state.workspace import Workspace
from local_sagemaker.transform.request import Sources, Wanted, create, want


@click.command(
    cls=Verb,
    examples=(
        "byoc transform --input rows.csv --split-type Line --output predictions",
        "byoc transform --request transform-job.yaml",
    ),
)
@project_option
@click.option(
    "--model",
    metavar="NAME|JOB|FILE",
    shell_complete=names_of("TrainingJob", "Model"),
    help="A model, a training job, or a model.tar.gz; the newest job's.",
)
@click.option("--input", "source", metavar="FILE|DIR|S3URI", help="What to transform.")
@click.option("--output", metavar="DIR|S3URI", help="Where each object's .out goes; by default a local bucket.")
@click.option("--job-name", help="By default made of the project's name and the time.")
@click.option("--content-type", help="Of the input; by default told from suffixes: .csv .json .jsonl .npy.")
@click.option("--accept", help="The content type wanted back.")
@click.option("--compression", type=click.Choice(["None", "Gzip"]), help="Of the input's objects.")
@click.option("--split-type", type=click.Choice(["None", "Line", "RecordIO", "TFRecord"]), help="What divides records.")
@click.option(
    "--strategy", type=click.Choice(["MultiRecord", "SingleRecord"]), help="Records in a request: as fit, or one."
)
@click.option("--assemble-with", type=click.Choice(["None", "Line"]), help="What ends each answer in the output.")
@click.option("--max-payload", type=click.IntRange(0, 100), help="Of a request, in MB; 0 for any size, in pieces.")
@click.option("--max-concurrent", type=click.IntRange(min=0), help="Requests at a time, to each instance.")
@click.option(
    "--instances", type=click.IntRange(min=1), help="Containers of the model, among which objects are spread."
)
@click.option("--input-filter", metavar="JSONPATH", help="What the container sees of a record, as $[1:].")
@click.option("--output-filter", metavar="JSONPATH", help="What is kept, as $[0,-1] or $['id','SageMakerOutput'].")
@click.option("--join", is_flag=True, help="Put each answer behind its record.")
@click.option("--timeout", type=click.IntRange(1, 3600), help="Seconds for a request.")
@click.option("--retries", type=click.IntRange(0, 3), help="Further attempts of a request that fails.")
@request_option
@image_option
@engine_option
@env_option
@click.option("--detach", is_flag=True, help="Print the job's name and let it run on.")
@dry_run_option
@json_option
def transform(project: Path, *, engine: EngineName, as_json: bool, **given: Any) -> None:
    """Send every record of a file or folder through a model; each file NAME becomes NAME.out."""
    workspace = Workspace.of(project)
    document = read_document(given["request_file"], "CreateTransformJob") or {}
    sources = Sources(given["model"], given["source"], given["output"], given["image"])
    wanted = want(workspace, sources, say_as_request(given), document, datetime.now().astimezone())
    if given["dry_run"]:
        tell_plan(wanted, as_json)
        return
    chosen = choose(engine)
    reconcile(workspace)
    answer = create(workspace, wanted)
    if given["detach"]:
        start_detached(workspace, engine, Kind.TRANSFORM_JOB, wanted.name)
        emit({"TransformJobName": wanted.name, **answer}, as_json, wanted.name)
        return
    tell(workspace, run(workspace, chosen, Kind.TRANSFORM_JOB, wanted.name, log_stream(as_json), say), as_json)


def say_as_request(given: dict[str, Any]) -> dict[str, Any]:
    """Lay flags out as the request is; what was not said is left out."""
    environment = parse_pairs(given["environment"], "--env")
    said = {
        "TransformJobName": given["job_name"],
        "MaxConcurrentTransforms": given["max_concurrent"],
        "MaxPayloadInMB": given["max_payload"],
        "BatchStrategy": given["strategy"],
        "Environment": environment or None,
        "ModelClientConfig": {
            "InvocationsTimeoutInSeconds": given["timeout"],
            "InvocationsMaxRetries": given["retries"],
        },
        "TransformInput": {
            "ContentType": given["content_type"],
            "CompressionType": given["compression"],
            "SplitType": given["split_type"],
        },
        "TransformOutput": {"Accept": given["accept"], "AssembleWith": given["assemble_with"]},
        "TransformResources": {"InstanceCount": given["instances"]},
        "DataProcessing": {
            "InputFilter": given["input_filter"],
            "OutputFilter": given["output_filter"],
            "JoinSource": "Input" if given["join"] else None,
        },
    }
    return _without_none(said)


def _without_none(document: dict[str, Any]) -> dict[str, Any]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in document.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def tell_plan(wanted: Wanted, as_json: bool) -> None:
    """Print the documents that would be sent, and the files that would appear in buckets."""
    links = {uri: str(path) for uri, path in wanted.links.items()}
    document = {"links": links, "CreateModel": wanted.model, "CreateTransformJob": wanted.request}
    emit(document, as_json, json.dumps(wanted.request, indent=2))


def tell(workspace: Workspace, record: Record, as_json: bool) -> None:
    """Print how a job ended.

    Raises:
        JobFailedError: if it has not completed.
    """
    place = workspace.buckets.path(record.request["TransformOutput"]["S3OutputPath"]).resolve()
    told = record.description
    lines = [f"{record.name}: {record.status}, outputs in {place}"] if record.status == "Completed" else []
    emit(told, as_json, *lines)
    if record.status != "Completed":
        raise JobFailedError(
            f"transform job {record.name} has the status {record.status}",
            told.get("FailureReason", ""),
            f"see the logs below {workspace.directory_of(Kind.TRANSFORM_JOB, record.name)}",
        )

"""A transform job, completely described and not yet started: from its record to containers and objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.engines.base import BASE_DIR, ContainerPlan, Mount
from local_sagemaker.errors import UsageError, ValidationError
from local_sagemaker.state.buckets import join_uri, split_uri
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.state.workspace import Workspace, container_name
from local_sagemaker.transform.data_processing import DataProcessing, format_of
from local_sagemaker.transform.jsonpath import JsonPath, JsonPathSyntaxError, parse
from local_sagemaker.transform.pace import STRATEGIES, Demands
from local_sagemaker.transform.splitting import SplitType

DEFAULT_TIMEOUT_SECONDS = 600
DEFAULT_RETRIES = 3
# Before a retry; twice as long before each further one.
PAUSE_SECONDS = 0.5
OUTPUT_SUFFIX = ".out"


@dataclass(frozen=True)
class InputObject:
    """One object, its size in bytes, and the address of its output."""

    uri: str
    path: Path
    size: int
    output_uri: str


@dataclass(frozen=True)
class ModelContainer:
    """One container of the model: its image, ``model.tar.gz`` if it has one, and variables."""

    image: str
    model_data: Path | None
    environment: Mapping[str, str]


@dataclass(frozen=True)
class TransformPlan:
    """A transform job.

    Attributes:
        directory: of the job's own, with its logs.
        containers: of the model, in the order in which a request passes through them.
        hosts: the objects of each instance; an instance without any is not started.
        code: the user's code folder, None for the model's or the image's own.
    """

    name: str
    directory: Path
    containers: tuple[ModelContainer, ...]
    hosts: tuple[tuple[InputObject, ...], ...]
    data_processing: DataProcessing
    demands: Demands = field(default_factory=Demands)
    environment: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    accept: str | None = None
    split: SplitType = "None"
    is_gzip: bool = False
    by_line: bool = False
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    retries: int = DEFAULT_RETRIES
    pause_seconds: float = PAUSE_SECONDS
    code: Path | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> Iterator[InputObject]:
        """All of them."""
        return (item for host in self.hosts for item in host)

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """What each request says of itself and of its answer."""
        said = (("Content-Type", self.content_type), ("Accept", self.accept))
        return tuple((name, value) for name, value in said if value)


def plan_transform_job(workspace: Workspace, record: Record) -> TransformPlan:
    """Describe the job of a record.

    Raises:
        ValidationError: if the model is gone, or there are no objects.
        UsageError: if an object or a model's file cannot be found.
    """
    request = record.request
    source, output = request["TransformInput"], request["TransformOutput"]
    client = request.get("ModelClientConfig", {})
    found = list(find_objects(workspace, source["DataSource"]["S3DataSource"], output["S3OutputPath"]))
    count = min(int(request["TransformResources"]["InstanceCount"]), len(found))
    code = workspace.root / "code"
    return TransformPlan(
        name=record.name,
        directory=workspace.directory_of(Kind.TRANSFORM_JOB, record.name),
        containers=model_containers(workspace, request["ModelName"]),
        hosts=tuple(tuple(found[place::count]) for place in range(count)),
        data_processing=plan_data_processing(request),
        demands=Demands(
            request.get("MaxConcurrentTransforms"), request.get("MaxPayloadInMB"), request.get("BatchStrategy")
        ),
        environment=request.get("Environment", {}),
        content_type=source.get("ContentType"),
        accept=output.get("Accept"),
        split=source.get("SplitType", "None"),
        is_gzip=source.get("CompressionType") == "Gzip",
        by_line=output.get("AssembleWith") == "Line",
        timeout_seconds=client.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT_SECONDS),
        retries=client.get("InvocationsMaxRetries", DEFAULT_RETRIES),
        pause_seconds=PAUSE_SECONDS,
        code=code if code.is_dir() else None,
        labels=workspace.labels(Kind.TRANSFORM_JOB, record.name),
    )


def plan_container(plan: TransformPlan, host: int, place: int) -> ContainerPlan:
    """Container ``place`` of the model on instance ``host``, both from 0."""
    container = plan.containers[place]
    name = f"algo-{host + 1}" if len(plan.containers) == 1 else f"algo-{host + 1}-{place + 1}"
    mounts = [Mount(plan.directory / f"model-{place + 1}", f"{BASE_DIR}/model", read_only=True)]
    if plan.code is not None:
        mounts.append(Mount(plan.directory / "code", f"{BASE_DIR}/code"))
    demanded = {
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": plan.demands.max_payload_mb,
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": plan.demands.max_concurrent,
        "SAGEMAKER_BATCH_STRATEGY": next((k for k, v in STRATEGIES.items() if v == plan.demands.strategy), None),
    }
    return ContainerPlan(
        name=container_name("transform", plan.labels, plan.name, name),
        command="serve",
        image=container.image,
        base_directory=plan.directory / name,
        environment={
            "SAGEMAKER_BATCH": "true",
            **{key: str(value) for key, value in demanded.items() if value is not None},
            **container.environment,
            **plan.environment,
        },
        mounts=tuple(mounts),
        hostname=name,
        port=0,
        labels=plan.labels,
    )


def find_objects(workspace: Workspace, source: Mapping[str, Any], output_path: str) -> Iterator[InputObject]:
    """The objects of a prefix or of a manifest, in the binary order of their addresses.

    Raises:
        ValidationError: if there are none.
        UsageError: if a manifest or one of its objects is not there.
    """
    buckets, uri = workspace.buckets, source["S3Uri"]
    if source["S3DataType"] == "ManifestFile":
        chosen = list(_manifest(buckets.read_bytes(uri), uri))
    else:
        chosen = [(item.uri, _below(item.uri, uri)) for item in buckets.objects(uri)]
    if not chosen:
        raise ValidationError(
            f'No S3 objects found under S3 URL "{uri}" given in input data source.', f"put files at {buckets.path(uri)}"
        )
    for address, name in sorted(chosen, key=lambda pair: pair[0].encode()):
        path = buckets.path(address)
        if not path.is_file():
            buckets.open(address)  # says what there is
        yield InputObject(address, path, path.stat().st_size, join_uri(output_path, name + OUTPUT_SUFFIX))


def _manifest(text: bytes, uri: str) -> Iterator[tuple[str, str]]:
    try:
        first, *names = json.loads(text)
        prefix = first["prefix"]
    except (ValueError, TypeError, KeyError):
        names, prefix = [], None
    if not isinstance(prefix, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"{uri} is no manifest", 'expected [{"prefix": "s3://bucket/folder/"}, "name", ...]', "correct the file"
        )
    yield from ((prefix + name, name) for name in names)


def _below(uri: str, prefix: str) -> str:
    """What stands behind the prefix, or behind the prefix's folder where it ends within a name."""
    if uri == prefix or not (prefix.endswith("/") or uri[len(prefix)] == "/"):
        _, key = split_uri(prefix)
        prefix = prefix[: len(prefix) - len(key.rpartition("/")[2])]
    return uri[len(prefix) :].lstrip("/")


def model_containers(workspace: Workspace, name: str) -> tuple[ModelContainer, ...]:
    """The containers of a model.

    Raises:
        ValidationError: if there is no such model, or transform jobs cannot use it.
    """
    model = workspace.store.get(Kind.MODEL, name).request
    described = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    return tuple(_container(workspace, name, container) for container in described)


def _container(workspace: Workspace, model: str, container: Mapping[str, Any]) -> ModelContainer:
    for key, value, word in (
        ("Mode", "MultiModel", "several models"),
        ("ModelDataSource", None, "unpacked model data"),
    ):
        if container.get(key) is not None and (value is None or container[key] == value):
            raise ValidationError(
                f'Model "{model}" has {word} ({key}), which batch transform does not support.',
                "make a model with an Image and the ModelDataUrl of one model.tar.gz",
            )
    if not container.get("Image"):
        raise ValidationError(f'Model "{model}" has no container with an Image.', "make a model with an Image")
    data: str | None = container.get("ModelDataUrl")
    path = None
    if data:
        path = workspace.buckets.path(data)
        if not path.is_file():
            workspace.buckets.open(data)  # says what there is
    return ModelContainer(container["Image"], path, container.get("Environment", {}))


def plan_data_processing(request: Mapping[str, Any]) -> DataProcessing:
    """What a request asks to be done to records and answers.

    Raises:
        ValidationError: if an expression is not understood, or the content types have no records to process.
    """
    asked = request.get("DataProcessing", {})
    source, output = request["TransformInput"], request["TransformOutput"]
    processing = DataProcessing(
        _path(asked, "InputFilter"),
        _path(asked, "OutputFilter"),
        asked.get("JoinSource", "None") == "Input",
        format_of(source.get("ContentType")),
        format_of(output.get("Accept") or source.get("ContentType")),
        source.get("SplitType") == "Line",
    )
    if (processing.changes_input or processing.joins) and processing.input_format is None:
        raise _unprocessed("TransformInput.ContentType", source.get("ContentType"))
    if processing.changes_output and processing.output_format is None:
        raise _unprocessed("TransformOutput.Accept", output.get("Accept"))
    if processing.joins and (processing.input_format == "csv") != (processing.output_format == "csv"):
        raise ValidationError(
            f"JoinSource Input cannot join {output.get('Accept')} to {source.get('ContentType')}.",
            "let both be CSV, or both JSON or JSON Lines",
        )
    for name, path, form in (
        ("InputFilter", processing.input_filter, processing.input_format),
        ("OutputFilter", processing.output_filter, processing.output_format),
    ):
        if form == "csv" and not path.is_whole and path.columns is None:
            raise ValidationError(
                f"{name} {path.expression} selects no columns.", "rows of CSV have indexes only, as $[0] or $[1:]"
            )
    return processing


def _path(asked: Mapping[str, Any], name: str) -> JsonPath:
    try:
        return parse(asked.get(name) or "$")
    except JsonPathSyntaxError as error:
        raise ValidationError(
            f"{name}: {error}.", "write $, or names, indexes and slices behind it, as $.features or $[0,5:]"
        ) from error


def _unprocessed(member: str, value: str | None) -> ValidationError:
    return ValidationError(
        f"DataProcessing needs text/csv, application/json or application/jsonlines as {member}, not {value}.",
        "say the content type, or leave the filters out",
    )

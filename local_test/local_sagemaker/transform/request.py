"""From what a person says, files, folders and names, to the documents that the API takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from local_sagemaker.api.documents import merge
from local_sagemaker.api.operations import call
from local_sagemaker.api.validation import validate
from local_sagemaker.content_types import content_type_of
from local_sagemaker.errors import UsageError
from local_sagemaker.model_choice import MODEL_ARCHIVE, find_model_data, newest_model
from local_sagemaker.names import STAND_IN_TYPE, make_job_name
from local_sagemaker.state.buckets import SCHEME, join_uri
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace


@dataclass(frozen=True)
class Sources:
    """What a transform job is made of, in a person's words; None where nothing is said.

    Attributes:
        model: the name of a model or of a training job, or a ``model.tar.gz``; by default the newest training job's.
        input: a file, a folder, or an address in the local buckets.
        output: a folder, or an address in the local buckets.
        image: of a model that is made for this job.
    """

    model: str | None
    input: str | None
    output: str | None
    image: str


@dataclass(frozen=True)
class Wanted:
    """A transform job that is wanted: documents, and files that appear in buckets without being copied.

    Attributes:
        request: of CreateTransformJob.
        model: of CreateModel, None where the model is there already.
        links: the user's own files and folders by the addresses under which they appear.
    """

    request: dict[str, Any]
    model: dict[str, Any] | None
    links: Mapping[str, Path]

    @property
    def name(self) -> str:
        """The job's."""
        return str(self.request["TransformJobName"])


def want(
    workspace: Workspace, sources: Sources, said: Mapping[str, Any], document: Mapping[str, Any], now: datetime
) -> Wanted:
    """Put together what flags and a request document say; flags win.

    Args:
        workspace: the project.
        sources: model, input and output.
        said: what other flags say, laid out as the request is.
        document: the request document, {} if there is none.
        now: names the job where nobody has.

    Raises:
        ValidationError: if the request is not as the API's model has it.
        UsageError: if a file is not there, or nothing names the input.
    """
    asked = merge(document, said)
    name = asked.setdefault("TransformJobName", None) or make_job_name(workspace.root.name, now)
    place = f"{SCHEME}{workspace.default_bucket}/{name}"
    links: dict[str, Path] = {}
    given: dict[str, Any] = {
        "TransformJobName": name,
        "TransformInput": _input(sources.input, asked, place, links),
        "TransformOutput": _output(sources.output, asked, place, links),
        "TransformResources": {"InstanceType": STAND_IN_TYPE, "InstanceCount": 1} | asked.get("TransformResources", {}),
    }
    model = None
    if sources.model is not None or "ModelName" not in asked:
        given["ModelName"], model = _model(workspace, sources, name, place, links)
    request = merge(asked, given)
    validate("CreateTransformJob", request)
    return Wanted(request, model, links)


def create(workspace: Workspace, wanted: Wanted) -> dict[str, Any]:
    """Make the links, the model and the job's record; returns the API's answer. Raises what CreateTransformJob does."""
    for uri, source in wanted.links.items():
        workspace.buckets.link(uri, source)
    if wanted.model is not None:
        call(workspace, "CreateModel", wanted.model)
    try:
        return call(workspace, "CreateTransformJob", wanted.request)
    except UsageError:
        if wanted.model is not None:
            workspace.store.delete(Kind.MODEL, wanted.model["ModelName"])
        for uri in wanted.links:
            workspace.buckets.delete(uri)
        raise


def _input(text: str | None, asked: Mapping[str, Any], place: str, links: dict[str, Path]) -> dict[str, Any]:
    source: dict[str, Any] = asked.get("TransformInput", {})
    if text is None:
        if "DataSource" not in source:
            raise UsageError(
                "nothing is said of the input", "a transform job has objects to transform", "say --input FILE|DIR|S3URI"
            )
        return {}
    uri, path = text, Path(text).expanduser().resolve()
    if not text.startswith(SCHEME):
        if not path.exists():
            raise UsageError(
                f"there is no {path}", "expected a file, a folder or s3://BUCKET/PREFIX", "correct --input"
            )
        uri = join_uri(place, "input", path.name) if path.is_file() else join_uri(place, "input", "")
        links[uri] = path
    content_type = source.get("ContentType") or _guess(path)
    return {
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
        **({"ContentType": content_type} if content_type else {}),
    }


def _guess(path: Path) -> str | None:
    """The content type of a file, or of a folder whose files are all of a kind."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    kinds = {content_type_of(file) for file in files}
    return kinds.pop() if len(kinds) == 1 else None


def _output(text: str | None, asked: Mapping[str, Any], place: str, links: dict[str, Path]) -> dict[str, Any]:
    if text is None:
        return {} if "S3OutputPath" in asked.get("TransformOutput", {}) else {"S3OutputPath": join_uri(place, "output")}
    if text.startswith(SCHEME):
        return {"S3OutputPath": text}
    folder = Path(text).expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}", "outputs go to a folder", "correct --output"
        ) from error
    uri = join_uri(place, "output")
    links[uri] = folder
    return {"S3OutputPath": uri}


def _model(
    workspace: Workspace, sources: Sources, job: str, place: str, links: dict[str, Path]
) -> tuple[str, dict[str, Any] | None]:
    """The model's name, and the document that makes it where there is none."""
    text = sources.model
    if text is not None and workspace.store.find(Kind.MODEL, text):
        return text, None
    data = newest_model(workspace.root) if text is None else find_model_data(workspace, text)
    if data is None or not str(data).endswith(".tar.gz"):
        raise UsageError(
            f"there is no model {text}",
            "expected the name of a model or of a training job that has completed, or a model.tar.gz",
            "train one with `byoc train`, or correct --model",
        )
    uri = data if isinstance(data, str) else join_uri(place, "model", MODEL_ARCHIVE)
    if isinstance(data, Path):
        links[uri] = data
    return job, {"ModelName": job, "PrimaryContainer": {"Image": sources.image, "ModelDataUrl": uri}}

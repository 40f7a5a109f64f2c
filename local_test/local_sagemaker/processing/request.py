"""The CreateProcessingJob request that flags amount to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_sagemaker.errors import UsageError
from local_sagemaker.names import STAND_IN_TYPE
from local_sagemaker.processing.plan import PROCESSING_DIR
from local_sagemaker.state.buckets import SCHEME, join_uri
from local_sagemaker.state.workspace import ROLE_ARN, Workspace
from local_sagemaker.training.request import VOLUME_GB

INPUT = re.compile(rf"(?P<name>[^=:]+)=(?P<source>.+):(?P<target>{PROCESSING_DIR}/.+)")
OUTPUT = re.compile(rf"(?P<name>[^=:]+)=(?P<target>{PROCESSING_DIR}/[^:]+)(:(?P<place>.+))?")


@dataclass(frozen=True)
class Place:
    """An input or output as a user writes it: a folder or an address in S3, None for one that we choose."""

    name: str
    target: str
    source: str | None

    @property
    def folder(self) -> Path | None:
        """The user's own folder, if it is one."""
        is_folder = self.source is not None and not self.source.startswith(SCHEME)
        return Path(self.source or "").expanduser().resolve() if is_folder else None

    def uri(self, home: str) -> str:
        """The address in S3, below ``home`` where the user names none."""
        if self.source is not None and self.source.startswith(SCHEME):
            return self.source
        return join_uri(home, self.name)


@dataclass(frozen=True)
class ProcessingFlags:
    """What a user says about a job besides its request document; None, or nothing, is not said."""

    image: str | None = None
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    inputs: tuple[Place, ...] = ()
    outputs: tuple[Place, ...] = ()
    sharded: frozenset[str] = frozenset()
    continuous: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    hosts: int | None = None
    instance_type: str | None = None
    max_runtime_seconds: int | None = None
    network: str | None = None


def parse_inputs(texts: tuple[str, ...]) -> tuple[Place, ...]:
    """Read ``NAME=DIR|s3://...:/opt/ml/processing/...``.

    Raises:
        UsageError: if one is not of this form, or names a folder that is not there.
    """
    places = []
    for text in texts:
        match = INPUT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"--input {text!r} cannot be read",
                f"expected NAME=DIR:{PROCESSING_DIR}/..., or NAME=s3://...:{PROCESSING_DIR}/...",
                f"write for example --input data=./data:{PROCESSING_DIR}/input",
            )
        place = Place(match["name"], match["target"], match["source"])
        if place.folder is not None and not place.folder.is_dir():
            raise UsageError(f"input {place.name}: there is no directory {place.folder}", "expected a folder of files")
        places.append(place)
    return tuple(places)


def parse_outputs(texts: tuple[str, ...]) -> tuple[Place, ...]:
    """Read ``NAME=/opt/ml/processing/...[:DIR|s3://...]``.

    Raises:
        UsageError: if one is not of this form.
    """
    matches = [OUTPUT.fullmatch(text) for text in texts]
    for text, match in zip(texts, matches, strict=True):
        if match is None:
            raise UsageError(
                f"--output {text!r} cannot be read",
                f"expected NAME={PROCESSING_DIR}/..., with :DIR or :s3://... for its place",
                f"write for example --output report={PROCESSING_DIR}/report:./report",
            )
    return tuple(Place(match["name"], match["target"], match["place"]) for match in matches if match is not None)


def default_request(name: str) -> dict[str, Any]:
    """What a job has where neither a document nor a flag says otherwise."""
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE_ARN,
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": STAND_IN_TYPE, "VolumeSizeInGB": VOLUME_GB}
        },
    }


def flags_request(flags: ProcessingFlags, workspace: Workspace, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that flags say, to be laid over ``known``, which is the rest of it."""
    home = join_uri(f"s3://{workspace.default_bucket}", name)
    said: dict[str, Any] = {
        "ProcessingJobName": name,
        "AppSpecification": _application(flags),
        "ProcessingResources": {"ClusterConfig": _cluster(flags)},
        "Environment": dict(flags.environment),
    }
    if flags.inputs:
        said["ProcessingInputs"] = _others(known.get("ProcessingInputs", []), "InputName", flags.inputs) + [
            _input(place, join_uri(home, "input"), flags) for place in flags.inputs
        ]
    if flags.outputs:
        outputs = known.get("ProcessingOutputConfig", {}).get("Outputs", [])
        said["ProcessingOutputConfig"] = {
            "Outputs": _others(outputs, "OutputName", flags.outputs)
            + [_output(place, join_uri(home, "output"), flags) for place in flags.outputs]
        }
    if flags.max_runtime_seconds is not None:
        said["StoppingCondition"] = {"MaxRuntimeInSeconds": flags.max_runtime_seconds}
    if flags.network is not None:
        said["NetworkConfig"] = {"EnableNetworkIsolation": flags.network == "none"}
    return {key: value for key, value in said.items() if value}


def _application(flags: ProcessingFlags) -> dict[str, Any]:
    said = {
        "ImageUri": flags.image,
        "ContainerEntrypoint": list(flags.entrypoint),
        "ContainerArguments": list(flags.arguments),
    }
    return {key: value for key, value in said.items() if value}


def _cluster(flags: ProcessingFlags) -> dict[str, Any]:
    known_type = flags.instance_type is not None and flags.instance_type.startswith("ml.")
    said = {"InstanceCount": flags.hosts, "InstanceType": flags.instance_type if known_type else None}
    return {key: value for key, value in said.items() if value is not None}


def _others(documents: list[dict[str, Any]], key: str, places: tuple[Place, ...]) -> list[dict[str, Any]]:
    names = {place.name for place in places}
    return [document for document in documents if document.get(key) not in names]


def _input(place: Place, home: str, flags: ProcessingFlags) -> dict[str, Any]:
    return {
        "InputName": place.name,
        "S3Input": {
            "S3Uri": place.uri(home) + ("" if place.folder is None else "/"),
            "LocalPath": place.target,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "ShardedByS3Key" if place.name in flags.sharded else "FullyReplicated",
        },
    }


def _output(place: Place, home: str, flags: ProcessingFlags) -> dict[str, Any]:
    mode = "Continuous" if place.name in flags.continuous else "EndOfJob"
    return {
        "OutputName": place.name,
        "S3Output": {"S3Uri": place.uri(home), "LocalPath": place.target, "S3UploadMode": mode},
    }

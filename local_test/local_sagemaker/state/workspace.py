"""Where a project's jobs, endpoints, buckets and records lie: everything below its ``.byoc``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from local_sagemaker.errors import UsageError
from local_sagemaker.state.buckets import Buckets
from local_sagemaker.state.records import Kind
from local_sagemaker.state.store import Store

ACCOUNT = "000000000000"
PARTITION = "aws"
ROLE_ARN = f"arn:{PARTITION}:iam::{ACCOUNT}:role/sagemaker-byoc"
WORKSPACE_LABEL = "sagemaker-byoc.workspace"
KIND_LABEL = "sagemaker-byoc.kind"
NAME_LABEL = "sagemaker-byoc.name"
# Whose session started it; a test session removes its own.
SESSION_LABEL = "sagemaker-byoc.session"
FOLDERS = {
    Kind.TRAINING_JOB: "jobs",
    Kind.PROCESSING_JOB: "processing",
    Kind.TRANSFORM_JOB: "transform",
    Kind.TUNING_JOB: "tuning",
    Kind.MODEL: "models",
    Kind.ENDPOINT_CONFIG: "endpoint-configs",
    Kind.ENDPOINT: "endpoints",
}


@dataclass(frozen=True)
class Workspace:
    """A project's own account, so to say.

    Attributes:
        root: the project directory, absolute.
        region: what ARNs and containers say.
    """

    root: Path
    region: str = field(default="us-east-1")

    @classmethod
    def of(cls, root: Path) -> Workspace:
        """The workspace of a project directory, in the region that the environment names.

        Raises:
            UsageError: if there is no such directory.
        """
        root = root.expanduser().resolve()
        if not root.is_dir():
            raise UsageError(
                f"there is no directory {root}", "expected a project directory", f"make one: `byoc init {root}`"
            )
        return cls(root, os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1")

    @property
    def directory(self) -> Path:
        """Everything that is ours."""
        return self.root / ".byoc"

    @property
    def database(self) -> Path:
        """The records."""
        return self.directory / "state.sqlite"

    @cached_property
    def store(self) -> Store:
        """The records; the file is made when first used."""
        return Store(self.database)

    @cached_property
    def buckets(self) -> Buckets:
        """The tree of files that plays S3."""
        return Buckets(self.directory / "s3")

    @property
    def default_bucket(self) -> str:
        """The bucket that the SDKs would make."""
        return f"sagemaker-{self.region}-{ACCOUNT}"

    @property
    def identity(self) -> str:
        """Tells this project's containers from another's."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    def directory_of(self, kind: Kind, name: str) -> Path:
        """Where a resource keeps its logs and files."""
        return self.directory / FOLDERS[kind] / name

    def labels(self, kind: Kind, name: str) -> dict[str, str]:
        """What the containers and networks of a resource are found by."""
        return {WORKSPACE_LABEL: self.identity, KIND_LABEL: str(kind), NAME_LABEL: name}

    def arn(self, kind: Kind, name: str) -> str:
        """The resource's ARN."""
        return f"arn:{PARTITION}:sagemaker:{self.region}:{ACCOUNT}:{kind.arn_noun}/{name.lower()}"


def container_name(what: str, labels: Mapping[str, str], *names: str) -> str:
    """Unique on this machine, where two projects may have jobs of one name at once.

    Args:
        what: the verb.
        labels: the container's, of which the project's is part of the name.
        names: the job's, and the host's where there are several.
    """
    return "-".join(filter(None, ("byoc", what, labels.get(WORKSPACE_LABEL), *names)))

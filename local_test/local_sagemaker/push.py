"""An image on its way to Amazon ECR: what is checked before, the repository, the login, the push, and what arrived.

Sources: Amazon ECR API reference, GetAuthorizationToken and CreateRepository; SageMaker API reference,
AlgorithmSpecification and ContainerDefinition; Docker Registry HTTP API V2.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from local_sagemaker.errors import ContractViolationError, EngineMissingError, LocalSageMakerError, UsageError
from local_sagemaker.progress import silent

if TYPE_CHECKING:
    from docker import DockerClient

REGISTRY_VARIABLE = "BYOC_ECR_REGISTRY"
PLATFORM = "linux/amd64"
MAX_REFERENCE = 255
MANIFEST_SECONDS = 30.0
REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?:/[a-z0-9]+(?:[._-][a-z0-9]+)*)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MANIFESTS = (
    DOCKER_MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
BUILD_FLAGS = "docker buildx build --platform linux/amd64 --provenance=false --sbom=false --output type=docker"


@dataclass(frozen=True)
class PushPlan:
    """A push, before anything was asked of AWS.

    Attributes:
        image: the local image.
        repository: the name in ECR.
        tag: the tag there.
        region: the registry's region.
        create: whether an absent repository is made.
        registry: ``HOST:PORT`` that is pushed to in place of the one that ECR names; for tests.
    """

    image: str
    repository: str
    tag: str
    region: str
    create: bool = True
    registry: str | None = None

    @property
    def uri(self) -> str:
        """The image's address, with the account left open where only ECR can tell it."""
        return f"{self.registry or f'ACCOUNT.dkr.ecr.{self.region}.amazonaws.com'}/{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Pushed:
    """What arrived in the registry; ``uri`` is for ``image_uri`` of the SDKs."""

    uri: str
    digest: str
    media_type: str
    repository_made: bool


@dataclass(frozen=True)
class Login:
    """What ECR gives for a push, valid for twelve hours."""

    registry: str
    user: str
    password: str


def plan_push(
    image: str,
    repository: str | None,
    tag: str | None,
    region: str,
    *,
    create: bool = True,
    registry: str | None = None,
) -> PushPlan:
    """Name the image in ECR: after the local one where nothing else is said.

    Raises:
        UsageError: if ECR or SageMaker does not take the name.
    """
    last = image.rpartition("/")[2]
    stem, _, own_tag = last.partition("@")[0].partition(":")
    plan = PushPlan(image, repository or stem, tag or own_tag or "latest", region, create, registry)
    if not REPOSITORY.fullmatch(plan.repository) or not 2 <= len(plan.repository) <= 256:
        raise UsageError(
            f"{plan.repository!r} cannot name a repository of ECR",
            "expected 2 to 256 lower-case letters, digits and . _ - /, each part beginning and ending with the former",
            "give another --repository",
        )
    if not TAG.fullmatch(plan.tag):
        raise UsageError(
            f"{plan.tag!r} cannot tag an image", "expected up to 128 letters, digits and . _ -", "give another --tag"
        )
    if len(plan.uri) + len("123456789012") - len("ACCOUNT") > MAX_REFERENCE:
        raise UsageError(
            f"{plan.uri} is too long for SageMaker",
            f"an image's address has at most {MAX_REFERENCE} characters",
            "give a shorter --repository or --tag",
        )
    return plan


def check_image(client: DockerClient, image: str) -> dict[str, Any]:
    """What Docker knows of the image.

    Raises:
        EngineMissingError: if there is none.
        ContractViolationError: if it is of another platform than SageMaker's.
    """
    import docker.errors  # noqa: PLC0415 - only a push needs it

    try:
        attributes: dict[str, Any] = client.images.get(image).attrs
    except docker.errors.ImageNotFound as error:
        raise EngineMissingError(
            f"there is no image {image}", "a push begins with an image of this machine", "build it: `byoc build`"
        ) from error
    platform = f"{attributes['Os']}/{attributes['Architecture']}"
    if platform != PLATFORM:
        raise ContractViolationError(
            f"{image} is for {platform}",
            f"SageMaker's instances run {PLATFORM}, but for those with Graviton",
            "build it with `docker build --platform linux/amd64`, or `byoc build --builder-arg=--platform=linux/amd64`",
        )
    return attributes


def push(plan: PushPlan, client: DockerClient, ecr: Any, report: Callable[[str], None] = silent) -> Pushed:
    """Push the image, and look at what arrived.

    Args:
        plan: what goes where.
        client: of the Docker engine that has the image.
        ecr: a client of boto3 for ECR in the plan's region.
        report: called with one line per stage.

    Raises:
        EngineMissingError: if there is no such image.
        UsageError: if ECR, the registry or Docker refuses, or there is no repository and none is to be made.
        ContractViolationError: if SageMaker would refuse the image.
    """
    check_image(client, plan.image)
    login = log_in(ecr, plan.registry)
    made = ensure_repository(ecr, plan.repository, plan.create)
    if made:
        report(f"made the repository {plan.repository}")
    name = f"{login.registry}/{plan.repository}"
    uri = f"{name}:{plan.tag}"
    client.images.get(plan.image).tag(name, tag=plan.tag)
    report(f"pushing {plan.image} to {uri}")
    _send(client, name, plan.tag, login)
    media_type, digest = read_manifest(login, plan.repository, plan.tag)
    check_media_type(uri, media_type)
    return Pushed(uri, digest, media_type, made)


def log_in(ecr: Any, registry: str | None = None) -> Login:
    """Ask ECR for a password.

    Raises:
        UsageError: if it gives none.
    """
    data = _ask(ecr.get_authorization_token)["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    return Login(registry or data["proxyEndpoint"].partition("://")[2], user, password)


def ensure_repository(ecr: Any, name: str, create: bool) -> bool:
    """See that there is a repository; returns whether it was made.

    Raises:
        UsageError: if there is none and none is to be made, or ECR refuses.
    """
    found = _ask(lambda: ecr.describe_repositories(repositoryNames=[name]), "RepositoryNotFoundException")
    if found is not None:
        return False
    if not create:
        raise UsageError(
            f"ECR has no repository {name}", "--no-create leaves it so", "make it, or leave out --no-create"
        )
    # Somebody else may have made it meanwhile.
    return _ask(lambda: ecr.create_repository(repositoryName=name), "RepositoryAlreadyExistsException") is not None


def read_manifest(login: Login, repository: str, tag: str) -> tuple[str, str]:
    """The media type and the digest of an image in a registry.

    Raises:
        UsageError: if the registry does not tell.
    """
    # As Docker does: a registry of this machine has no certificate, and no proxy before it.
    is_local = re.match(r"(localhost|127\.[0-9.]+)(:|$)", login.registry) is not None
    url = f"{'http' if is_local else 'https'}://{login.registry}/v2/{repository}/manifests/{tag}"
    headers = {"Accept": ", ".join(MANIFESTS)}
    try:
        auth = (login.user, login.password)
        answer = httpx.head(url, headers=headers, auth=auth, timeout=MANIFEST_SECONDS, trust_env=not is_local)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise UsageError(
            f"{url} does not tell what arrived: {error}",
            "the registry says each image's media type",
            "look with `docker manifest inspect`",
        ) from error
    return answer.headers.get("content-type", ""), answer.headers.get("docker-content-digest", "")


def check_media_type(uri: str, media_type: str) -> None:
    """Raise ContractViolationError for a manifest that SageMaker has refused: an index, or one of OCI's."""
    if media_type != DOCKER_MANIFEST:
        raise ContractViolationError(
            f"{uri} was pushed as {media_type or 'a manifest without a type'}",
            f"SageMaker takes {DOCKER_MANIFEST}, and has refused others as an unsupported manifest media type",
            f"build it with `{BUILD_FLAGS}`, without Docker's containerd image store, and push it again",
        )


def _send(client: DockerClient, name: str, tag: str, login: Login) -> None:
    import docker.errors  # noqa: PLC0415 - only a push needs it

    auth = {"username": login.user, "password": login.password}
    try:
        for line in client.images.push(name, tag=tag, auth_config=auth, stream=True, decode=True):
            if "error" in line:
                raise _refused(name, line["error"])
    except docker.errors.APIError as error:
        raise _refused(name, error.explanation or str(error)) from error


def _refused(name: str, reason: str) -> UsageError:
    return UsageError(
        f"the push to {name} failed: {reason}",
        "the registry must be reachable, and your AWS user allowed to push to it",
        "correct that and push again: layers that arrived are not sent twice",
    )


def _ask(question: Callable[[], Any], tolerated: str = "") -> Any:
    """ECR's answer, or None for the one error that is tolerated."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - heavy, and only a push needs it

    try:
        return question()
    except ClientError as error:
        if error.response["Error"]["Code"] == tolerated:
            return None
        reason: LocalSageMakerError | Exception = error
    except BotoCoreError as error:
        reason = error
    raise UsageError(
        f"ECR does not answer as hoped: {reason}",
        "expected credentials that may use ECR, as the AWS command line finds them",
        "configure them: `aws configure`, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    ) from reason

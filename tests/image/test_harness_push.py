"""A push to a real registry on loopback; moto plays ECR, whose own registry nobody here can reach."""

import io
import json
import shutil
import socket
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import boto3
import httpx
import pytest
from click.testing import CliRunner
from local_sagemaker.cli import byoc
from local_sagemaker.engines import DockerEngine
from local_sagemaker.errors import ContractViolationError, EngineMissingError, UsageError
from local_sagemaker.push import Login, check_image, check_media_type, plan_push, push, read_manifest
from moto import mock_aws

from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DIRECT = httpx.Client(trust_env=False, timeout=60)  # a proxy that CI may have does not lead to loopback
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry: Debian's package docker-registry."""
    program = shutil.which("docker-registry")
    if program is None and not request.config.getoption("--require-docker"):
        pytest.skip("docker-registry is not installed")
    assert program is not None, "apt-get install docker-registry"
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    (folder / "config.yml").write_text(CONFIG.format(root=folder / "data", port=port))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_until(
            lambda: _answers(port),
            "the registry to answer",
            300,
            ended=lambda: None if server.poll() is None else (folder / "log").read_text(),
        )
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(300)


def _answers(port: int) -> bool:
    try:
        return DIRECT.get(f"http://127.0.0.1:{port}/v2/").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def client() -> Any:
    """Docker's."""
    return DockerEngine.connect().client


@pytest.fixture
def image(client: Any) -> Iterator[str]:
    """An image of one small file."""
    tag = f"byoc-push-{uuid.uuid4().hex[:12]}:v1"
    yield load(client, tag, "amd64")
    remove(client, tag)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty account."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with mock_aws():
        yield


def tar_of(files: dict[str, bytes]) -> bytes:
    """An archive."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


def load(client: Any, tag: str, architecture: str) -> str:
    """Bring an image of one file into the engine."""
    layer = tar_of({"hello.txt": tag.encode()})
    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    documents = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    client.images.load(tar_of({**documents, "layer.tar": layer}))
    return tag


def remove(client: Any, tag: str) -> None:
    """With every name that a push gave it."""
    for name in client.images.get(tag).tags:
        client.images.remove(name, force=True)


def test_a_push_makes_the_repository_and_ends_with_an_address_for_the_sdks(
    aws: None, registry: str, image: str, client: Any
) -> None:
    """0.8: and what arrived has Docker's media type."""
    repository = f"team/{image.partition(':')[0]}"
    arguments = ["push", image, "--repository", repository, "--tag", "v2", "--json"]
    ran = CliRunner().invoke(byoc, [*arguments, "--registry", registry], catch_exceptions=False)
    pushed = json.loads(ran.stdout)
    assert pushed["uri"] == f"{registry}/{repository}:v2"
    assert pushed["media_type"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert pushed["repository_made"] is True
    ecr = boto3.client("ecr")
    assert [one["repositoryName"] for one in ecr.describe_repositories()["repositories"]] == [repository]

    again = CliRunner().invoke(byoc, arguments, env={"BYOC_ECR_REGISTRY": registry}, catch_exceptions=False)
    assert json.loads(again.stdout) == pushed | {"repository_made": False}
    stored = DIRECT.get(f"http://{registry}/v2/{repository}/manifests/{pushed['digest']}")
    assert stored.status_code == 200


def test_a_dry_run_asks_nobody_and_pushes_nothing(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    arguments = ["push", image, "--region", "eu-west-1", "--dry-run"]
    ran = CliRunner().invoke(byoc, arguments, catch_exceptions=False)
    repository = image.partition(":")[0]
    assert f"docker push ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/{repository}:v1" in ran.stdout.splitlines()


def test_an_image_of_another_platform_is_refused_before_anything_is_asked(client: Any) -> None:
    """0.7."""
    tag = load(client, f"byoc-push-{uuid.uuid4().hex[:12]}:arm", "arm64")
    try:
        with pytest.raises(ContractViolationError, match=r"is for linux/arm64(.|\n)*--platform linux/amd64"):
            push(plan_push(tag, None, None, "eu-west-1"), client, ecr=None)
    finally:
        remove(client, tag)


def test_an_image_that_is_not_there_is_named(client: Any) -> None:
    with pytest.raises(EngineMissingError, match="there is no image no-such-image"):
        check_image(client, "no-such-image")


def test_an_index_in_the_registry_is_found_out(
    aws: None, registry: str, image: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.8: what newer Docker pushes by default; a proxy to the world does not stand before this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    plan = plan_push(image, None, None, "eu-west-1", registry=registry)
    pushed = push(plan, client, boto3.client("ecr"))
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{"mediaType": pushed.media_type, "digest": pushed.digest, "size": 100}],
    }
    url = f"http://{registry}/v2/{plan.repository}/manifests/index"
    put = DIRECT.put(url, content=json.dumps(index), headers={"Content-Type": OCI_INDEX})
    assert put.status_code == 201
    media_type, _ = read_manifest(Login(registry, "AWS", "password"), plan.repository, "index")
    with pytest.raises(ContractViolationError, match=r"was pushed as application/vnd\.oci\.image\.index"):
        check_media_type(pushed.uri, media_type)


def test_a_registry_that_nobody_can_reach_is_named(aws: None, image: str, client: Any) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else can listen there
        registry = f"127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(UsageError, match=rf"the push to {registry}/\S+ failed"):
            push(plan_push(image, None, None, "eu-west-1", registry=registry), client, boto3.client("ecr"))

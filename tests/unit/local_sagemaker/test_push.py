"""What is settled before a push, and what is said of what arrived; ECR is played by moto."""

import boto3
import pytest
from local_sagemaker.errors import ContractViolationError, UsageError
from local_sagemaker.push import check_media_type, ensure_repository, log_in, plan_push
from moto import mock_aws


@pytest.fixture
def ecr(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


@pytest.mark.parametrize(
    ("image", "repository", "tag"),
    [
        ("digits", "digits", "latest"),
        ("digits:v3", "digits", "v3"),
        ("localhost:5000/team/digits:v3", "digits", "v3"),
        ("team/digits", "digits", "latest"),
    ],
)
def test_an_image_keeps_its_name_and_tag_in_ecr(image, repository, tag):
    plan = plan_push(image, None, None, "eu-west-1")
    assert (plan.repository, plan.tag) == (repository, tag)
    assert plan.uri == f"ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/{repository}:{tag}"


@pytest.mark.parametrize("repository", ["Digits", "a", "digits ", "-digits", "team//digits", "x" * 257])
def test_what_ecr_does_not_take_for_a_repository_is_refused(repository):
    """0.9."""
    with pytest.raises(UsageError, match="cannot name a repository"):
        plan_push("image", repository, None, "eu-west-1")


@pytest.mark.parametrize("tag", ["-v1", "v 1", "x" * 129])
def test_what_is_no_tag_is_refused(tag):
    """0.9."""
    with pytest.raises(UsageError, match="cannot tag an image"):
        plan_push("image", None, tag, "eu-west-1")


def test_an_address_has_255_characters_at_most():
    """0.9."""
    rest = len("123456789012.dkr.ecr.eu-west-1.amazonaws.com/:latest")
    plan_push("image", "x" * (255 - rest), None, "eu-west-1")
    with pytest.raises(UsageError, match="too long for SageMaker"):
        plan_push("image", "x" * (256 - rest), None, "eu-west-1")


def test_a_repository_is_made_once(ecr):
    assert ensure_repository(ecr, "team/digits", create=True)
    assert not ensure_repository(ecr, "team/digits", create=True)
    assert not ensure_repository(ecr, "team/digits", create=False)
    names = [one["repositoryName"] for one in ecr.describe_repositories()["repositories"]]
    assert names == ["team/digits"]


def test_no_repository_is_made_against_the_users_will(ecr):
    with pytest.raises(UsageError, match="has no repository digits"):
        ensure_repository(ecr, "digits", create=False)


def test_the_login_is_for_the_accounts_own_registry(ecr):
    login = log_in(ecr)
    assert login.registry == "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert login.user == "AWS"
    assert login.password
    assert log_in(ecr, "127.0.0.1:5000").registry == "127.0.0.1:5000"


def test_credentials_that_are_missing_are_the_users_to_give(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(UsageError, match="Unable to locate credentials"):
        log_in(boto3.session.Session().client("ecr", region_name="eu-west-1"))


def test_dockers_manifest_is_the_only_one_that_sagemaker_takes():
    """0.8."""
    check_media_type("uri", "application/vnd.docker.distribution.manifest.v2+json")
    for refused in ("application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", ""):
        with pytest.raises(ContractViolationError, match="--provenance=false --sbom=false") as violation:
            check_media_type("uri", refused)
        assert violation.value.exit_code == 4

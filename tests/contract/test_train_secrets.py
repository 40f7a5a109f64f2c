"""A secret of the job is the script's to use and nobody else's to read."""

from collections.abc import Callable

import pytest

from tests.support.opt_ml import OptMl
from tests.support.training import TrainRun

SECRETS = {"HF_TOKEN": "hf_it's-0123456789", "DATABASE": "postgres://me:pa55word@host/db"}


def test_secrets_are_masked_in_the_failure_file(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """1.9: it becomes the FailureReason, which anybody with the console reads; the script's own output is untouched."""
    opt_ml.hyperparameters(api_token="s3cr3t-0123456789", lr="0.1")
    run = train("raises_with_a_secret", SECRETS)
    assert run.exit_code == 1
    assert (run.failure or "").startswith('ValueError: 401 for *** at postgres://me:***@host/db with "***"')
    assert b"s3cr3t-0123456789" in run.stderr


@pytest.mark.parametrize("name", ["exits_3", "succeeds", "raises"])
def test_launcher_prints_no_value_of_a_hyperparameter(opt_ml: OptMl, train: Callable[..., TrainRun], name: str) -> None:
    """2.1: neither secrets nor others; the toolkit prints each several times."""
    opt_ml.hyperparameters(api_token="s3cr3t-0123456789", secret="abcd", note="kept-to-the-script")
    run = train(name, SECRETS)
    for value in ("s3cr3t", "abcd", "kept-to-the-script", "hf_it", "pa55word"):
        assert value not in run.log + (run.failure or "")


def test_requirement_with_a_password_is_not_shown(opt_ml: OptMl, train: Callable[..., TrainRun]) -> None:
    """12.1: addresses of private packages hold tokens."""
    opt_ml.code("succeeds")
    line = "private @ https://me:pa55word@127.0.0.1:9/private-1.0-py3-none-any.whl\n"
    (opt_ml.base / "code" / "requirements.txt").write_text(line)
    run = train("succeeds", {"PIP_RETRIES": "0"})
    assert run.exit_code == 66
    assert "https://***@127.0.0.1" in run.log
    assert "pa55word" not in (run.failure or "")
    assert "pa55word" not in run.stderr.decode()

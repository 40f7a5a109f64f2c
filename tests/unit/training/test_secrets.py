"""What is a secret, and that it cannot be read in what we write."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.credentials import without_credentials
from sagemaker_byoc.training.secrets import is_secret_name, mask, secret_values

from tests.unit.training.test_job import job

SECRET = [
    *("password", "PASSWORD", "db_password", "dbPassword", "DB_PASSWD", "passphrase", "MYSQL_PWD", "secret", "Secret"),
    *("client_secret", "clientSecret", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN"),
    *("HUGGING_FACE_HUB_TOKEN", "hf_token", "hfToken", "token", "TOKEN", "api_token", "apiToken", "GITHUB_TOKEN"),
    *(
        "auth-token",
        "use_auth_token",
        "WANDB_API_KEY",
        "api_key",
        "apiKey",
        "apikey",
        "API-KEY",
        "api.key",
        "X-Api-Key",
    ),
    *("OPENAI_API_KEY", "private_key", "ssh_private_key", "PRIVATE_KEY_PEM", "encryption_key", "account_key"),
    *(
        "SM_HP_API_KEY",
        "SM_HP_API-KEY",
        "credentials",
        "GOOGLE_CREDENTIALS",
        "db_pass",
        "SMTP_PASS",
        "connection_string",
    ),
    *("AzureStorageKey", "Authorization", "SLACK_WEBHOOK_URL", "license_key", "signing_key", "master-key", "accesskey"),
]
NO_SECRET = [
    *(
        "num_tokens",
        "max_tokens",
        "max_token",
        "tokenizer",
        "tokenizer_name",
        "tokens_per_batch",
        "pad_token",
        "eos_token",
    ),
    *(
        "bos-token",
        "mask_token",
        "unk_token",
        "sep_token",
        "cls_token",
        "special_tokens",
        "token_dim",
        "token_type_ids",
    ),
    *(
        "pad_token_id",
        "image_token_index",
        "max_new_tokens",
        "next_token",
        "monkey",
        "key_dim",
        "key",
        "num_keys",
        "keys",
    ),
    *("keyboard", "hockey", "primary_key", "sort_key", "label_key", "public_key", "s3_key", "kms_key_id", "turkey"),
    *("PWD", "OLDPWD", "passes", "num_passes", "single_pass", "forward_pass", "bypass", "compass", "lr", "batch-size"),
    *("secret_name", "SECRET_ARN", "password_file", "AWS_SHARED_CREDENTIALS_FILE", "password_min_length", "author"),
    *("authors", "train", "PATH", "LD_LIBRARY_PATH", "SSH_AUTH_SOCK", "GPG_KEY", "SM_HPS", "secretary", "tokenize", ""),
]


@pytest.mark.parametrize("name", SECRET)
def test_name_of_a_secret_is_known(name: str) -> None:
    """No hyperparameter that looks like a secret is ever logged."""
    assert is_secret_name(name)


@pytest.mark.parametrize("name", NO_SECRET)
def test_name_of_a_setting_is_no_secret(name: str) -> None:
    """A masked learning rate would make a failure unreadable."""
    assert not is_secret_name(name)


@given(st.text(min_size=4, max_size=60).filter(lambda text: len(text.strip()) >= 4))
def test_no_form_of_a_secret_is_left_in_a_text(value: str) -> None:
    """1.9: as sent, as JSON, as Python's repr and as part of a URL."""
    values = secret_values(_of({"api_key": json.dumps(value)}), {})
    if value.lower() in {"true", "false", "none", "null", "auto", "default"}:
        return
    shown = [value, json.dumps(value), repr(value), quote(value.encode("utf-8", "surrogatepass"), safe="")]
    for text in shown:
        assert mask(f"before {text} after", values).replace("***", "").strip("\"' ") in {
            "before  after",
            "before '' after",
            'before "" after',
        }


def test_secrets_of_variables_and_of_nested_values_are_known(tmp_path: Path) -> None:
    """4.1, 2.3."""
    found = job(tmp_path, hyperparameters={"tracker": '{"url": "x", "api_key": "k-1234567"}', "lr": "0.1"})
    values = secret_values(found, {"HF_TOKEN": "hf_abcdef", "HOME": "/root", "DB": "postgres://me:pa%24s@db/x"})
    assert {"k-1234567", "hf_abcdef", "pa%24s", "pa$s"} <= set(values)
    assert not {"0.1", "/root", "me", "x"} & set(values)


def test_token_in_place_of_a_user_is_a_secret(tmp_path: Path) -> None:
    """An index or a repository is often named so."""
    values = secret_values(
        job(tmp_path), {"REPO": "https://ghp_0123456789abcdef@host/x", "PLAIN": "https://git@host/x"}
    )
    assert values == ("ghp_0123456789abcdef",)


@pytest.mark.parametrize("value", ["true", "True", "abc", "", "null", "None"])
def test_value_that_is_in_every_text_is_not_masked(tmp_path: Path, value: str) -> None:
    """use_auth_token is often just true."""
    assert secret_values(job(tmp_path, hyperparameters={"use_auth_token": value}), {}) == ()


def test_longer_secret_goes_first(tmp_path: Path) -> None:
    """Else half of it would be left."""
    values = secret_values(job(tmp_path, hyperparameters={"a_token": "abcd", "b_token": "abcdefgh"}), {})
    assert mask("x abcdefgh y", values) == "x *** y"


def test_lines_of_a_private_key_are_masked_one_by_one(tmp_path: Path) -> None:
    """A failure file may hold one of them."""
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"
    values = secret_values(job(tmp_path, hyperparameters={"private_key": json.dumps(key)}), {})
    assert mask("bad line: hkiG9w0BAQEFAASC", values) == "bad line: ***"


def test_credentials_of_an_address_are_taken_out() -> None:
    """What pip prints may name an index with a password."""
    assert (
        without_credentials("see https://me:pass@host/x and https://host/y")
        == "see https://***@host/x and https://host/y"
    )


def _of(hyperparameters: dict[str, str]):  # hypothesis allows no fixture
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return job(Path(folder), hyperparameters=hyperparameters)

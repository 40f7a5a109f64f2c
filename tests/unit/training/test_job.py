"""The platform's documents become one TrainingJob."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.paths import MLPaths
from sagemaker_byoc.training.job import Hyperparameter, TrainingJob, can_be_passed


def job(base: Path, **documents: object) -> TrainingJob:
    """Read a job from documents given by name."""
    paths = MLPaths(base)
    paths.config.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (paths.config / f"{name}.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return TrainingJob.read(paths, {})


def test_a_byte_order_mark_before_a_document_is_passed_over(tmp_path: Path) -> None:
    """2.1: a hand-made /opt/ml may come from an editor of Windows."""
    assert job(tmp_path, hyperparameters='\ufeff{"epochs": "10"}').hyperparameters["epochs"].text == "10"


@given(st.text())
def test_any_text_is_a_hyperparameter_and_keeps_its_token(token: str) -> None:
    """2.3: JSON or not, nothing crashes and nothing is lost."""
    assert Hyperparameter.read("h", token).token == token


@given(st.text().filter(can_be_passed))
def test_json_encoded_text_is_the_text(value: str) -> None:
    """2.3: what SDKs do to every string."""
    assert Hyperparameter.read("h", json.dumps(value)).text == value


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ('"a\\u0000b"', '"a\\u0000b"'),
        ("a\0b", '"a\\u0000b"'),
        ('"\\ud800"', '"\\ud800"'),
        ("\ud800", '"\\ud800"'),
        ('{"a":"\\u0000"}', '{"a":"\\u0000"}'),
    ],
)
def test_text_that_no_program_can_be_given_keeps_its_escapes(token: str, text: str) -> None:
    """2.1, 2.3: a NUL or half a character would keep the script from starting."""
    found = Hyperparameter.read("h", token)
    assert (found.text, found.argument) == (text, text)


@pytest.mark.parametrize("token", ["NaN", "-Infinity", "1e999", "[1e999]", '{"a": NaN}', "[" * 5000 + "]" * 5000])
def test_value_is_always_json(token: str) -> None:
    """11.1: SM_HPS is read by programs that know no NaN; what cannot be read back is text."""
    assert json.loads(json.dumps(Hyperparameter.read("h", token).value, allow_nan=False)) == token


@pytest.mark.parametrize("token", ["NaN", "Infinity", "1e5", "1.10", "007", "", " 1", "[1, 2]"])
def test_script_reads_what_was_sent(token: str) -> None:
    """2.1: printing a value again may change it, so the token stays."""
    assert Hyperparameter.read("h", token).text == token


def test_documents_may_be_absent(tmp_path: Path) -> None:
    """2.8, 2.10."""
    found = job(tmp_path)
    assert (found.hosts, found.current_host, found.channels) == (["algo-1"], "algo-1", {})


@pytest.mark.parametrize("topology", [None, [], [{"hostName": "algo-1"}]])
def test_topology_is_no_obstacle(tmp_path: Path, topology: object) -> None:
    """2.11."""
    assert job(tmp_path, resourceconfig={"current_host": "algo-1", "hosts": ["algo-1"], "topology": topology}).hosts


def test_names_of_the_toolkit_are_kept_from_the_user(tmp_path: Path) -> None:
    """2.4, 12.5."""
    found = job(tmp_path, hyperparameters={"lr": "1", "sagemaker_program": "x.py", "_tuning_objective_metric": "acc"})
    assert [one.name for one in found.users_hyperparameters] == ["lr"]


def test_broken_document_names_path_line_and_column(tmp_path: Path) -> None:
    """Exit 64 with a place to look at."""
    with pytest.raises(PlatformInputError, match=r"hyperparameters\.json.*line 1 column 2"):
        job(tmp_path, hyperparameters="{broken")

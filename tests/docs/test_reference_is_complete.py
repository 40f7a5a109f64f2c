"""Nothing that a user can set, type or send is missing from the reference."""

import re
from pathlib import Path

import click
import pytest
from local_sagemaker import errors as harness_errors
from local_sagemaker.cli import byoc
from sagemaker_byoc import errors
from sagemaker_byoc.serving import codecs, settings_table
from sagemaker_byoc.serving.settings import variable_names
from sagemaker_byoc.settings import TrainSettings

REFERENCE = Path(__file__).parents[2] / "docs/reference"
COMMANDS = byoc.commands_by_path()
VERBS = sorted(COMMANDS)


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("command", "variables"), [("train", TrainSettings.VARIABLES), ("serve", variable_names())])
def test_every_variable_that_is_read_has_a_row_and_no_row_is_left_over(
    command: str, variables: tuple[str, ...]
) -> None:
    section = page("environment-variables.md").split(f"## Read by `{command}`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(rows) == sorted(variables)


def test_table_of_servings_variables_is_the_one_that_the_settings_make() -> None:
    assert settings_table.table() in page("environment-variables.md")


def test_every_verb_of_byoc_has_a_heading_and_no_heading_is_left_over() -> None:
    headings = re.findall(r"^## `byoc ([\w -]+)`", page("byoc-command-line.md"), re.MULTILINE)
    assert sorted(headings) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_described(verb: str) -> None:
    section = page("byoc-command-line.md").split(f"## `byoc {verb}`")[1].split("\n## ")[0]
    options = [max(p.opts, key=len) for p in COMMANDS[verb].params if isinstance(p, click.Option) and not p.hidden]
    assert [option for option in options if f"`{option}" not in section] == []


def test_every_content_type_has_a_row() -> None:
    rows = page("content-types.md")
    names = {name for codec in codecs.CODECS for name in (codec.content_type, *codec.aliases)}
    assert sorted(name for name in names if f"`{name}`" not in rows) == []


def test_every_error_that_a_caller_can_meet_has_a_row() -> None:
    rows = page("exit-codes-and-errors.md")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ByocError)]
    assert sorted(k.__name__ for k in kinds if k is not errors.ByocError and f"`{k.__name__}`" not in rows) == []


def test_every_error_in_the_services_words_has_a_row_with_its_code() -> None:
    rows = page("exit-codes-and-errors.md")
    kinds = [kind for kind in vars(harness_errors).values() if isinstance(kind, type)]
    service = [k for k in kinds if issubclass(k, harness_errors.ServiceError) and k is not harness_errors.ServiceError]
    assert [
        k.__name__ for k in service if not re.search(rf"^\\| `{k.code}` .*`{k.__name__}` \\|$", rows, re.MULTILINE)
    ] == []
    assert {k.exit_code for k in service} == {2}

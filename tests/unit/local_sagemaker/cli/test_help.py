"""Help that can be copied from."""

import shlex

import click
import pytest
from local_sagemaker.cli import byoc
from local_sagemaker.cli.verb import Verb

COMMANDS = byoc.commands_by_path()
EXAMPLES = [(path, example) for path, command in COMMANDS.items() for example in getattr(command, "examples", ())]


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_every_verb_has_examples(path):
    command = COMMANDS[path]
    assert isinstance(command, Verb)
    assert command.examples


# What comes out of these is a container's or an endpoint's own bytes.
WITHOUT_JSON = {"invoke", "logs", "shell"}
# What plans, makes, changes or removes something that is not undone in a moment.
WITH_DRY_RUN = {"base-image", "build", "train", "tune", "process", "serve", "transform", "check", "push", "rm"}
WITH_DRY_RUN |= {f"endpoint {verb}" for verb in ("create", "update", "config", "weights", "scale")}


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_json_and_dry_run_are_said_alike_wherever_they_make_sense(path):
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ("--json" in options) == (path not in WITHOUT_JSON)
    assert ("--dry-run" in options) == (path in WITH_DRY_RUN)


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_every_example_is_understood_by_its_verb(path, example):
    """Options and arguments are read, not run; files need not exist."""
    words = shlex.split(example)
    verb = path.split()
    assert words[: 1 + len(verb)] == ["byoc", *verb]
    with click.Context(COMMANDS[path], info_name=path) as context:
        COMMANDS[path].make_parser(context).parse_args(words[1 + len(verb) :])


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_help_shows_the_examples_as_they_are_typed(path):
    with click.Context(COMMANDS[path], info_name=path) as context:
        text = COMMANDS[path].get_help(context)
    assert all(f"  {example}" in text.splitlines() for example in COMMANDS[path].examples)

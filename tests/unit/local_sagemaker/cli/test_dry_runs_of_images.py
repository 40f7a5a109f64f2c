"""``--dry-run`` of the verbs that make images: the command that would run, and nothing made."""

import json
import shlex

import pytest
from click.testing import CliRunner
from local_sagemaker.base_image import plan_base_image
from local_sagemaker.cli import byoc
from local_sagemaker.errors import EngineMissingError
from local_sagemaker.image import BASE_IMAGE_TAG, OFFICIAL_BASE, likely_base_image


def run(*arguments):
    return CliRunner().invoke(byoc, arguments, catch_exceptions=False).stdout


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """A docker command that has no image, and notes what it is asked for."""
    asked = tmp_path / "asked"
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {shlex.quote(str(asked))}\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return asked


def test_a_dry_run_of_build_prints_the_command_and_neither_pulls_nor_builds(docker):
    words = shlex.split(run("build", "--dry-run", "--tag", "digits:1", "--builder-arg=--no-cache"))
    assert words[:4] == ["docker", "build", "--tag", "digits:1"]
    assert f"BASE_IMAGE={OFFICIAL_BASE}" in words
    assert words[-2:] == ["--no-cache", "-"]
    assert {line.split()[0] for line in docker.read_text().splitlines()} == {"image"}


def test_with_json_it_names_the_files_that_the_builder_gets(docker, tmp_path):
    code = tmp_path / "mine"
    code.mkdir()
    (code / "train.py").touch()
    document = json.loads(run("build", "--dry-run", "--json", "--code", str(code), "--base-image", "mine:1"))
    assert document["base_image"] == "mine:1"
    assert {"Dockerfile", "user_code/train.py"} <= set(document["files"])
    assert "opt_ml_template/code/train.py" not in document["files"]


@pytest.mark.parametrize(
    ("given", "here", "base"),
    [("mine", {OFFICIAL_BASE}, "mine"), (None, {BASE_IMAGE_TAG}, BASE_IMAGE_TAG), (None, set(), OFFICIAL_BASE)],
)
def test_the_base_of_a_dry_run_is_the_one_that_a_build_tries_first(given, here, base):
    assert likely_base_image(given, here.__contains__) == base


def test_without_docker_a_dry_run_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissingError, match="docker command is not on PATH"):
        run("build", "--dry-run")


def test_a_dry_run_of_base_image_prints_both_commands_of_the_pipe(monkeypatch):
    def plan(pip_conf, tag):
        return plan_base_image(("deb http://mirror bookworm main",), (), pip_conf, "/usr/bin/docker", tag)

    monkeypatch.setattr("local_sagemaker.cli.base_image.plan_for_this_machine", plan)
    document = json.loads(run("base-image", "--dry-run", "--tag", "mine:1", "--json"))
    whole = run("base-image", "--dry-run", "--tag", "mine:1")
    assert document["bootstrap"][0] == "mmdebstrap"
    assert document["import"][-2:] == ["-", "mine:1"]
    assert shlex.split(whole) == [*document["bootstrap"], "|", *document["import"]]

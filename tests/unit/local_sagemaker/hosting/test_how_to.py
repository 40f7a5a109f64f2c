"""The how-to's commands do what it says, in a project that has two models, without Docker."""

import os
import subprocess
import sys

from tests.docs.markdown import command_blocks
from tests.support.places import CONTAINER, HARNESS, REPOSITORY

PAGE = REPOSITORY / "docs/how-to/compare-two-models.md"
MODEL = "def model_fn(model_dir):\n    return {}\ndef predict_fn(data, model):\n    return {{'label': model}}\n"


def test_the_commands_of_the_how_to_do_what_it_says(tmp_path):
    """20.3, 20.5, 21.1."""
    for name, label in (("old", 1), ("new", 3)):
        (tmp_path / name / "code").mkdir(parents=True)
        (tmp_path / name / "code" / "inference.py").write_text(MODEL.format(label))
    (tmp_path / "request.json").write_text("[1]")
    (tmp_path / "truth.csv").write_text("inferenceId,label\nr1,3\nr2,3\n")
    commands = "\n".join(block.script for block in command_blocks(PAGE.read_text(encoding="utf-8")))
    byoc = f'byoc() {{ "{sys.executable}" -m local_sagemaker "$@"; }}\n'
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])}
    environ["DOCKER_HOST"] = f"unix://{tmp_path}/no-docker-here.sock"
    ran = subprocess.run(
        ["bash", "-c", f"set -eu\n{byoc}trap 'test $? = 0 || byoc endpoint delete' EXIT\n{commands}"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '{"label":3}' in ran.stdout
    assert "blue: weight 50" in ran.stdout
    assert "latency p99" in ran.stdout
    assert "100.00 %" in ran.stdout.split("right")[1]
    assert "the update to" in (tmp_path / ".byoc/endpoints/digits/events.log").read_text()

"""The page about tuning: its program is tuned by its commands, without Docker."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.docs.markdown import command_blocks
from tests.docs.test_python_api import python_blocks
from tests.support.places import CONTAINER, HARNESS, REPOSITORY

PAGE = "docs/how-to/tune-hyperparameters.md"


def test_the_commands_of_the_page_do_what_it_says(tmp_path):
    """24.1, 24.4, 24.7."""
    (program,) = python_blocks(PAGE)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/train.py").write_text(program)
    blocks = command_blocks((REPOSITORY / PAGE).read_text())
    script = "set -eux\n" + "".join(block.script for block in blocks)
    environ = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{CONTAINER}{os.pathsep}{HARNESS.parent}",
        "DOCKER_HOST": f"unix://{tmp_path}/no-docker-here.sock",
    }
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=550, check=False
    )
    assert ran.returncode == 0, ran.stderr
    tried = {}
    for name in ("first", "all", "second"):
        folder = tmp_path / ".byoc/tuning" / name
        assert (folder / "objective.png").is_file()
        document = json.loads((folder / "results.json").read_text())
        tried[name] = [one["TunedHyperParameters"] for one in document["TrainingJobSummaries"]]
    assert [len(tried[name]) for name in ("first", "all", "second")] == [6, 4, 2]
    assert {(one["lr"], one["momentum"]) for one in tried["all"]} == {
        (lr, momentum) for lr in ("0.01", "0.1") for momentum in ("0.0", "0.5")
    }
    assert "took over" in ran.stderr
    assert "--variant best=first-00" in ran.stderr

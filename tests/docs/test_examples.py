"""The examples do what their READMEs say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import links
from tests.docs.test_commands import read_blocks, run_in_bash, scratch_copy, script_of
from tests.docs.test_links import resolves

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/parameter_server"


@pytest.mark.timeout(630)
def test_parameter_server_and_two_workers_learn_the_digits(tmp_path: Path) -> None:
    """5.1, 5.8: the README's commands; the rank that serves tells the metrics and writes the model, once."""
    copy = scratch_copy(tmp_path)
    blocks = [block for block in read_blocks(f"{EXAMPLE}/README.md") if block.not_run is None]
    exit_code, output = run_in_bash(script_of(blocks), copy)
    assert exit_code == 0, output
    told = re.findall(r"^epoch=\d+ .* validation_accuracy=([0-9.]+);$", output, re.MULTILINE)
    assert len(told) == 10, output
    assert float(told[-1]) > 0.85
    assert (copy / EXAMPLE / "model/model.pt").stat().st_size > 10_000


def test_one_process_is_told_to_bring_another(tmp_path: Path) -> None:
    """5.1: no traceback, and nothing waits for a worker that will never come."""
    script = shutil.copy(ROOT / EXAMPLE / "code/train.py", tmp_path)
    environ = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, script], env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("one process is not enough")


@pytest.mark.parametrize("readme", sorted(ROOT.glob("examples/*/README.md")), ids=lambda path: path.parent.name)
def test_every_link_of_an_example_resolves(readme: Path) -> None:
    assert [link for link in links(readme.read_text(encoding="utf-8")) if not resolves(readme, link)] == []

"""The Python API: every public name is in the reference, and the code of the how-tos runs as it stands."""

import inspect
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import sagemaker_byoc
from sagemaker_byoc import channels, checkpoints

from tests.support.training import clean_environment

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs/reference/python-api.md").read_text(encoding="utf-8")


def section(module: ModuleType) -> str:
    """The module's part of the reference."""
    return REFERENCE.split(f"## `{module.__name__}`\n")[1].split("\n## ")[0]


def public_names(module: ModuleType) -> set[str]:
    """What is defined in a module, and what its classes do."""
    found = set()
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        found.add(name)
        if inspect.isclass(value):
            found |= {f"{name}.{member}" for member, what in vars(value).items()
                      if inspect.isfunction(what) and not member.startswith("_")}  # fmt: skip
    return found


@pytest.mark.parametrize("module", [checkpoints, channels], ids=lambda module: module.__name__)
def test_every_public_name_has_a_row_and_no_row_is_left_over(module: ModuleType) -> None:
    assert set(re.findall(r"^\| `([\w.]+)", section(module), re.MULTILINE)) == public_names(module)


@pytest.mark.parametrize("module", [checkpoints, channels], ids=lambda module: module.__name__)
def test_the_signatures_are_as_they_are_written(module: ModuleType) -> None:
    for name in public_names(module):
        called = module
        for part in name.split("."):
            called = getattr(called, part)
        written = re.search(rf"^\| `{re.escape(name)}\((.*?)\)`", section(module), re.MULTILINE)
        if written:
            names = [re.split(r"[=: ]", parameter.strip("* "))[0] for parameter in written[1].split(",") if parameter]
            hidden = {"self", "environ", "clock"}
            assert names == [n for n in inspect.signature(called).parameters if n not in hidden], name


def test_the_codecs_have_their_rows() -> None:
    assert set(re.findall(r"^\| `(\w+)\(", section(sagemaker_byoc), re.MULTILINE)) == set(sagemaker_byoc.__all__)


def python_blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_block(code: str, base: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment({"SAGEMAKER_BASE_DIR": str(base)}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_loop_of_save_checkpoints_saves_and_goes_on(tmp_path: Path) -> None:
    (block,) = python_blocks("docs/how-to/save-checkpoints.md")
    run_block(block.replace("STEPS = 1000", "STEPS = 10"), tmp_path)
    run_block(block, tmp_path)
    saved = checkpoints.open_checkpoints(tmp_path / "checkpoints")
    assert [one.step for one in saved.all()] == [10, 1000]
    found = saved.newest()
    assert found is not None
    assert json.loads(found.path.read_text())["weight"] == pytest.approx(sum(1 / n for n in range(1, 1001)))


def test_the_readers_of_read_a_pipe_channel_read(tmp_path: Path) -> None:
    """With plain files in place of the pipes, as the page says."""
    data = tmp_path / "input" / "data"
    data.mkdir(parents=True)
    for number in range(2):
        (data / f"train_{number}").write_bytes(b"line\n")
    records = (b"jpeg", b"cats")
    (data / "images_0").write_bytes(b"".join(struct.pack("<II", 0xCED7230A, 4) + record for record in records))
    lines, samples = python_blocks("docs/how-to/read-a-pipe-channel.md")
    assert run_block(lines, tmp_path).splitlines() == ["0 b'line\\n'", "1 b'line\\n'"]
    assert run_block(samples, tmp_path).splitlines() == ["4 b'cats'"]

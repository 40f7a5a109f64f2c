"""The commands of README and tutorial do what they say: each is run, in order, in a scratch copy of the project.

They run without Docker, as on the smallest machine. A block that cannot run here says why in a comment before it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import CommandBlock, command_blocks
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
EXECUTED = ("README.md", "docs/tutorial/first-model.md")
# Forty epochs take half a minute on an idle machine, and ten times as long on one that others use.
LIMIT_SECONDS = 600


@pytest.mark.timeout(LIMIT_SECONDS + 30)
@pytest.mark.parametrize("document", EXECUTED)
def test_the_commands_of_a_document_succeed_in_order(document: str, tmp_path: Path) -> None:
    blocks = [block for block in read_blocks(document) if block.not_run is None]
    assert blocks, f"{document} has no command to run"
    exit_code, output = run_in_bash(script_of(blocks), scratch_copy(tmp_path))
    assert exit_code == 0, f"{document}: the commands ended with exit code {exit_code}\n{output}"


@pytest.mark.parametrize("document", sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/how-to/*.md")), ids=str)
def test_a_block_that_is_not_run_says_why(document: Path) -> None:
    unmarked = [block.line for block in read_blocks(str(document)) if block.not_run is None]
    assert not unmarked, f"{document}, lines {unmarked}: only {' and '.join(EXECUTED)} are run"


def read_blocks(document: str) -> list[CommandBlock]:
    return command_blocks((ROOT / document).read_text(encoding="utf-8"))


def script_of(blocks: list[CommandBlock]) -> str:
    """One script, so that `cd`, variables and jobs in the background live on, as they do for a reader."""
    script = "set -euxo pipefail\n" + "\n".join(block.script for block in blocks)
    return script.replace("8080", str(free_port()))  # somebody may be serving there


def scratch_copy(folder: Path) -> Path:
    """The tracked and new files of the repository, without what .gitignore leaves out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    copy = folder / "sagemaker-byoc"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    return copy


def run_in_bash(script: str, folder: Path) -> tuple[int, str]:
    """Run in a session of its own and end all of it afterwards, so that no server stays behind."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SM_", "SAGEMAKER_", "BYOC_"))}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    environ["DOCKER_HOST"] = f"unix://{folder}/no-docker-here.sock"
    environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other crawl on a machine that others use
    log = folder.parent / "output.txt"
    with log.open("wb") as sink:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
        try:
            exit_code = shell.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            exit_code = 124
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    return exit_code, log.read_text(errors="replace")[-8000:]

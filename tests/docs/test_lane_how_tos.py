"""The how-tos about the lane on an event loop: their code is served as it stands."""

import subprocess
import sys
from pathlib import Path

from tests.docs.test_python_api import python_blocks
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint


def serve(tmp_path: Path, code: str) -> Endpoint:
    """An endpoint with this text as its inference.py."""
    tree = OptMl.make(tmp_path / "opt_ml")
    folder = tree.base / "model" / "code"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inference.py").write_text(code, encoding="utf-8")
    return Endpoint(tree, tmp_path / "serve.log", {"BYOC_LANE": "asgi"})


def test_async_functions_are_awaited(tmp_path: Path) -> None:
    """22.2."""
    (code,) = python_blocks("docs/how-to/answer-on-an-event-loop.md")
    with serve(tmp_path, code) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b'["ada", "grace"]').json == [3.0, 7.0]


def test_the_caller_of_a_stream_prints_what_the_page_says(tmp_path: Path) -> None:
    """15.19."""
    code, caller = python_blocks("docs/how-to/stream-in-both-directions.md")
    with serve(tmp_path, code) as endpoint:
        endpoint.wait_until_ready()
        command = [sys.executable, "-c", caller, str(endpoint.port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert (done.returncode, done.stdout) == (0, "HELLO\n320 bytes\n"), done.stderr

"""The how-tos about many models and sessions: their code is served, and prints what they say."""

import subprocess
import sys
from pathlib import Path

from tests.docs.test_python_api import python_blocks
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint


def run(caller: str, port: int) -> str:
    """What a caller's program prints; it must end well."""
    command = [sys.executable, "-c", caller, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_session_remembers_what_the_page_says(tmp_path: Path) -> None:
    """15.15, 15.16."""
    code, caller = python_blocks("docs/how-to/keep-sessions.md")
    tree = OptMl.make(tmp_path / "opt_ml")
    (tree.base / "model/code").mkdir()
    (tree.base / "model/code/inference.py").write_text(code, encoding="utf-8")
    with Endpoint(tree, tmp_path / "serve.log", {"SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true"}) as endpoint:
        endpoint.wait_until_ready()
        assert run(caller, endpoint.port) == "2 so far, the first was 'hello'\n3 so far, the first was 'hello'\n400\n"


def test_a_model_is_loaded_asked_and_unloaded_as_on_the_page(tmp_path: Path) -> None:
    """15.24-15.27."""
    (caller,) = python_blocks("docs/how-to/serve-many-models.md")
    tree = OptMl.make(tmp_path / "opt_ml")
    code = tree.base / "models/m1/model/code"
    code.mkdir(parents=True)
    (code / "inference.py").write_text("def predict_fn(data, model):\n    return sum(data)\n", encoding="utf-8")
    with Endpoint(tree, tmp_path / "serve.log", {"SAGEMAKER_MULTI_MODEL": "true"}) as endpoint:
        endpoint.wait_until_ready()
        printed = run(caller.replace("/opt/ml", str(tree.base)), endpoint.port)
        assert printed == "200\nm1\n(200, 6)\n200\n"

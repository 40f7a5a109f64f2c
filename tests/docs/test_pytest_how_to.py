"""The page about the pytest plugin: its tests pass on a small project, without Docker."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.test_python_api import python_blocks
from tests.support.places import HARNESS, RUNTIME

TRAIN = """
import json, os, sys
from pathlib import Path

epochs = int(json.loads(os.environ["SM_HPS"])["epochs"])
for epoch in range(1, epochs + 1):
    print(f"epoch {epoch} loss={1 / (epoch + 1):.3f}", flush=True)
Path(os.environ["SM_MODEL_DIR"], "weights.json").write_text("{}")
"""
INFERENCE = """
def model_fn(model_dir):
    return sum


def predict_fn(data, model):
    return {"sum": int(model(data))}
"""


def test_the_pages_tests_pass_on_a_project_and_leave_no_files_in_it(tmp_path: Path) -> None:
    (tests,) = python_blocks("docs/how-to/test-your-image-with-pytest.md")
    files = {
        "code/train.py": TRAIN,
        "code/inference.py": INFERENCE,
        "tests/test_model.py": tests,
        "pytest.ini": "[pytest]\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    options = ["-p", "local_sagemaker.pytest_plugin", "-p", "no:cacheprovider", "--byoc-engine", "process"]
    python_path = os.pathsep.join([str(RUNTIME.parent), str(HARNESS.parent)])
    ran = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, "--basetemp", str(tmp_path.with_name("scratch")), "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": python_path},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(files)

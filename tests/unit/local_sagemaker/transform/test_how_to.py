"""The how-to's commands do what it says, in a project that has a trained model, without Docker."""

import json
import os
import subprocess
import sys
import tarfile

from tests.docs.markdown import command_blocks
from tests.support.places import CONTAINER, HARNESS, REPOSITORY

PAGE = REPOSITORY / "docs/how-to/transform-a-batch.md"
INFERENCE = """
def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return [[float(cell) for cell in row.split(",")] for row in body.split()]

def predict_fn(rows, model):
    return "".join(f"{sum(row):g}\\n" for row in rows)

def output_fn(text, accept):
    return text, "text/csv"
"""


def test_the_commands_of_the_how_to_do_what_it_says(tmp_path):
    """15.38, 15.40, 23.6."""
    job = tmp_path / ".byoc" / "jobs" / "trained"
    job.mkdir(parents=True)
    model = job / "model.tar.gz"
    with tarfile.open(model, "w:gz"):
        pass
    document = {"status": "Completed", "ended_at": "2026-01-31T12:00:00+00:00", "model_data": str(model)}
    (job / "job.json").write_text(json.dumps(document))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(INFERENCE)
    (tmp_path / "rows.csv").write_text("7,1,2\n8,3,4\n9,5,6\n")
    commands = "\n".join(block.script for block in command_blocks(PAGE.read_text(encoding="utf-8")))
    shim = f'byoc() {{ local verb=$1; shift; "{sys.executable}" -m local_sagemaker "$verb" --engine process "$@"; }}\n'
    paths = os.pathsep.join([str(CONTAINER), str(HARNESS.parent)])
    ran = subprocess.run(
        ["bash", "-c", f"set -eu\n{shim}{commands}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (tmp_path / "predictions" / "rows.csv.out").read_text() == "10\n15\n20\n"
    assert (tmp_path / "joined" / "rows.csv.out").read_text() == "7,3\n8,7\n9,11\n"
    assert (tmp_path / "again" / "rows.csv.out").read_text() == "10\n15\n20\n"

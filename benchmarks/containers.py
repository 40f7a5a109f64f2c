"""One job in one container: the platform's files below a fresh /opt/ml, no network, and a failure that is seen."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import LABEL

HERE = Path(__file__).resolve().parent
TEMPLATE_CODE = HERE.parent / "opt_ml_template" / "code"
HOST = "algo-1"
OURS, TOOLKIT = "this image's train", "sagemaker-training's train"
OUR_TRAIN, TOOLKIT_TRAIN = "/opt/program/train", "/opt/venv/bin/train"
CONFIG: Mapping[str, object] = {
    "hyperparameters.json": {"epochs": "3", "learning-rate": "0.1"},
    "inputdataconfig.json": {},
    "resourceconfig.json": {"current_host": HOST, "hosts": [HOST], "network_interface_name": "lo"},
}


def run_container(image: str, base: Path, environment: Mapping[str, str], command: Sequence[str]) -> str:
    """Run to its end and return standard output; a container that fails ends the benchmark with its log."""
    settings = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
    network = ["--network", "none", "--hostname", HOST, "--add-host", f"{HOST}:127.0.0.1"]
    mounts = ["--volume", f"{base}:/opt/ml", "--volume", f"{HERE}:/bench:ro"]
    arguments = ["docker", "run", "--rm", "--label", LABEL, *network, *mounts, *settings, image, *command]
    ended = subprocess.run(arguments, check=False, capture_output=True, text=True, errors="replace")
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def make_base(
    folder: Path, program: str, hyperparameters: Mapping[str, str] | None = None, modules: Sequence[Path] = ()
) -> Path:
    """Lay out a fresh /opt/ml with the platform's files, one program, and modules that it imports."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("input/config", "code", "model", "output"):
        (folder / name).mkdir(parents=True)
    content = CONFIG if hyperparameters is None else {**CONFIG, "hyperparameters.json": hyperparameters}
    for name, document in content.items():
        (folder / "input" / "config" / name).write_text(json.dumps(document), encoding="utf-8")
    for file in (HERE / "inside" / program, *modules):
        shutil.copy(file, folder / "code" / file.name)
    return folder

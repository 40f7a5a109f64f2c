"""The how-tos about models: their code runs as it stands."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.docs.test_python_api import python_blocks
from tests.support.training import clean_environment


def run(code: str, folder: Path) -> str:
    environ = clean_environment({"ORT_DISABLE_TELEMETRY": "1", "PYTHONWARNINGS": "ignore"})
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_export_of_serve_an_onnx_model_writes_a_model(tmp_path: Path) -> None:
    """22.1."""
    (block,) = python_blocks("docs/how-to/serve-an-onnx-model.md")
    assert "batch_sizes=(16, 1, 3, 8)" in run(block.replace("/opt/ml/model", str(tmp_path)), tmp_path)
    assert (tmp_path / "model.onnx").is_file()


def test_the_weights_of_share_weights_between_workers_are_loaded(tmp_path: Path) -> None:
    """13.6."""
    weights, device = python_blocks("docs/how-to/share-weights-between-workers.md")
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(torch.ones(1, 64), tmp_path / "rows.pt")
    answer = run(f"{weights}\nprint(model_fn('.')(torch.load('rows.pt')).tolist())", tmp_path)
    assert [float(number) for number in answer.strip("[]\n").split(",")] == pytest.approx(
        model(torch.ones(1, 64))[0].tolist(), rel=1e-4
    )
    context = "from sagemaker_byoc.serving.handlers import Context\nfrom pathlib import Path\n"
    assert "cpu" in run(f"{context}{device}\nprint(model_fn('.', Context(Path('.'))).weight.device)", tmp_path)


def test_the_small_model_of_export_for_edge_runs_without_torch(tmp_path: Path) -> None:
    """What the device runs imports neither PyTorch nor this package."""
    export, device = python_blocks("docs/how-to/export-for-edge.md")
    assert "of the rows keep their class" in run(export, tmp_path)
    sizes = [(tmp_path / name).stat().st_size for name in ("model.onnx", "model.int8.onnx")]
    assert sizes[1] < 0.5 * sizes[0]
    assert run(f"{device}\nimport sys; print('torch' in sys.modules)", tmp_path).splitlines()[-1] == "False"

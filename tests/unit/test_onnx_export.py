"""An exported model gives the answers of the one that it was exported from, or is not written."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from sagemaker_byoc.onnx_export import ParityError, export_onnx, quantize_onnx
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


class Classifier(nn.Module):
    """A network as one finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 64), nn.Linear(64, 10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.layers(images)
        return output


class TwoInputs(nn.Module):
    """Whole numbers in, two outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 4)

    def forward(self, tokens: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.words(tokens) * weights[..., None]
        return {"sum": found.sum(1), "largest": found.amax(1)}


def run(path: Path, **inputs: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers: list[Any] = session.run(None, inputs)
    return answers


def metadata(path: Path) -> dict[str, str]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def test_the_exported_model_answers_as_torch_does_for_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier()
    parity = export_onnx(model, torch.rand(1, 1, 8, 8), tmp_path / "model" / "model.onnx")
    assert parity.batch_sizes == (1, 3, 8)
    assert parity.largest_difference <= parity.tolerance == 1e-4
    assert model.training, "the model is left as it was"
    images = torch.rand(17, 1, 8, 8)
    with torch.inference_mode():
        expected = model.eval()(images).numpy()
    (found,) = run(tmp_path / "model" / "model.onnx", images=images.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["model.onnx"]


def test_what_was_tried_is_written_into_the_model(tmp_path: Path) -> None:
    parity = export_onnx(Classifier(), torch.rand(2, 1, 8, 8), tmp_path / "model.onnx", tolerance=1e-3)
    assert metadata(tmp_path / "model.onnx") == {
        "sagemaker_byoc.tolerance": "0.001",
        "sagemaker_byoc.largest_difference": f"{parity.largest_difference:.3g}",
        "sagemaker_byoc.batch_sizes": "2,1,3,8",
        "sagemaker_byoc.torch": torch.__version__,
    }


@pytest.mark.parametrize("form", [tuple, dict], ids=["by-order", "by-name"])
def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path, form: type) -> None:
    tokens, weights = torch.tensor([[1, 2, 3], [4, 5, 19]]), torch.rand(2, 3)
    examples = (tokens, weights) if form is tuple else {"tokens": tokens, "weights": weights}
    export_onnx(TwoInputs(), examples, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        ("tokens", ["batch", 3]),
        ("weights", ["batch", 3]),
    ]
    assert [one.name for one in session.get_outputs()] == ["sum", "largest"]


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    parity = export_onnx(Classifier(), torch.rand(4, 1, 8, 8), tmp_path / "model.onnx", dynamic_batch=False)
    assert parity.batch_sizes == (4,)
    with pytest.raises(Exception, match="Got: 5 Expected: 4"):
        run(tmp_path / "model.onnx", images=np.zeros((5, 1, 8, 8), np.float32))


def test_a_model_whose_answers_differ_is_not_written_and_figures_say_by_how_much(tmp_path: Path) -> None:
    """What depends on chance cannot be the same twice; what was there before stays."""

    class Noisy(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows + torch.randn_like(rows)

    (tmp_path / "model.onnx").write_bytes(b"the one before")
    with pytest.raises(
        ParityError, match=r"output 'output' .* differs from PyTorch's by \d.* at batch size 2; tolerated is"
    ):
        export_onnx(Noisy(), torch.rand(2, 3), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"the one before"


def test_nothing_is_said_about_packages_that_are_not_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        export_onnx(nn.Linear(4, 2), torch.rand(2, 4), tmp_path / "model.onnx")
    assert not caplog.records
    assert capfd.readouterr().out == ""


def test_missing_packages_are_told_with_the_way_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'onnxscript.*pip install "sagemaker-byoc\[export\]"'):
        export_onnx(nn.Linear(4, 2), torch.rand(2, 4), tmp_path / "model.onnx")


def test_eight_bits_make_it_smaller_and_say_what_that_costs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 10))
    rows = torch.rand(64, 256)
    export_onnx(model, rows, tmp_path / "model.onnx")
    done = quantize_onnx(tmp_path / "model.onnx", tmp_path / "small.onnx", {"input": rows.numpy()})
    assert done.bytes_after == (tmp_path / "small.onnx").stat().st_size < 0.35 * done.bytes_before
    assert 0 < done.largest_difference < 0.1
    assert 0.8 < done.agreement <= 1
    assert run(tmp_path / "small.onnx", input=rows[:1].numpy())[0].shape == (1, 10)

"""The copy of a model that workers map: made once, for this version of the model, or done without."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from sagemaker_byoc.onnx_export import export_onnx
from sagemaker_byoc.onnx_import import import_onnxruntime
from sagemaker_byoc.serving import onnx_sharing
from sagemaker_byoc.serving.onnx_sharing import shared_copy, weights_size
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A network with both kinds of weights that ONNX Runtime packs."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    network = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 64), nn.Linear(64, 4))
    export_onnx(network, torch.rand(2, 1, 8, 8), path)
    return path.read_bytes()


@pytest.fixture
def model(tmp_path: Path, exported: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model, as if it were worth sharing."""
    monkeypatch.setattr(onnx_sharing, "WORTH_SHARING", 0)
    (tmp_path / "model").mkdir()
    (tmp_path / "shared").mkdir()
    path = tmp_path / "model" / "model.onnx"
    path.write_bytes(exported)
    return path


def answers(path: Path) -> np.ndarray:
    onnxruntime = import_onnxruntime("this test")
    images = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def test_the_copy_answers_as_the_model_does(model: Path, tmp_path: Path) -> None:
    """20.2."""
    copy = shared_copy(model, tmp_path / "shared")
    assert copy is not None
    np.testing.assert_allclose(answers(copy), answers(model), rtol=1e-5, atol=1e-6)
    assert weights_size(copy) > weights_size(model)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.onnx"], "the model's folder is read-only"


def test_weights_in_a_file_beside_the_model_count_and_are_copied(model: Path, tmp_path: Path) -> None:
    """As models above 2 GiB have them."""
    import onnx

    expected = answers(model)
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    assert weights_size(model) > 2 * model.stat().st_size
    copy = shared_copy(model, tmp_path / "shared")
    assert copy is not None
    np.testing.assert_allclose(answers(copy), expected, rtol=1e-5, atol=1e-6)
    (model.parent / "model.onnx.data").touch()
    assert shared_copy(model, tmp_path / "shared") != copy, "other weights under the same graph"


def test_workers_that_start_together_make_one(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first makes it, the others wait."""
    made: list[Path] = []
    make = onnx_sharing._make

    def counting(model: Path, place: Path, size: int) -> str:
        made.append(place)
        return make(model, place, size)

    monkeypatch.setattr(onnx_sharing, "_make", counting)
    found: list[Path | None] = []
    workers = [threading.Thread(target=lambda: found.append(shared_copy(model, tmp_path / "shared"))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(made) == 1
    assert len(found) == 3
    assert set(found) == {made[0] / "model.onnx"}


def test_another_version_has_another_copy(model: Path, tmp_path: Path) -> None:
    """After a reload with new weights the old ones must not answer."""
    first = shared_copy(model, tmp_path / "shared")
    export_onnx(nn.Linear(3, 2), torch.rand(2, 3), model)
    second = shared_copy(model, tmp_path / "shared")
    assert None not in (first, second)
    assert first != second


def test_a_small_model_is_not_worth_it(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_sharing, "WORTH_SHARING", 2**25)
    assert shared_copy(model, tmp_path / "shared") is None
    assert list((tmp_path / "shared").iterdir()) == []


def test_without_room_each_worker_loads_its_own_and_the_log_says_so_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnx_sharing, "_ROOM", 1e12)
    with caplog.at_level(logging.INFO, "sagemaker_byoc"):
        assert shared_copy(model, tmp_path / "shared") is None
        assert shared_copy(model, tmp_path / "shared") is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert "model.onnx is loaded by each worker for itself" in line
    assert "MB are free" in line


def test_a_model_that_cannot_be_copied_leaves_nothing_behind(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with it the worker says when it loads it."""
    model.write_bytes(b"no model")
    assert shared_copy(model, tmp_path / "shared") is None
    assert "a shared copy could not be made" in caplog.text
    assert not [path for path in (tmp_path / "shared").iterdir() if path.is_dir()]

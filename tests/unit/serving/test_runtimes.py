"""Which code serves a model, and which runtime where no code loads it."""

import logging
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sagemaker_byoc.errors import MalformedBody, UserCodeError
from sagemaker_byoc.onnx_export import export_onnx
from sagemaker_byoc.serving.onnx_runtime import OnnxOptions, choose_providers
from sagemaker_byoc.serving.runtimes import Choice, choose_code, code_is_about_onnx, find_runtime, preloadable
from sagemaker_byoc.serving.torch_runtime import compile_model
from sklearn.linear_model import LinearRegression
from torch import nn

CPU_ONLY = ["AzureExecutionProvider", "CPUExecutionProvider"]
GPU = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


class Sums(nn.Module):
    """Two inputs whose lengths must agree, two outputs."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": left + right, "difference": left - right}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of ONNX, made once."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    export_onnx(nn.Linear(3, 2), torch.rand(2, 3), folder / "linear" / "model.onnx")
    export_onnx(Sums(), (torch.rand(2, 3), torch.rand(2, 3)), folder / "sums" / "model.onnx")
    return folder


def folder_with(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def predict(model: Any, data: Any) -> Any:
    assert model is not None
    return model.predict(data)


# Which code


def choose(base: Path, runtime: str = "auto") -> Choice:
    return choose_code("inference.py", [base / "model/code", base / "code"], base / "image", base / "model", runtime)


@pytest.mark.parametrize("runtime", ["auto", "python"])
@pytest.mark.parametrize("place", ["model/code", "code"])
def test_code_of_the_model_or_the_job_always_wins(tmp_path: Path, place: str, runtime: str) -> None:
    """22.1: beside a model.onnx too, whether or not it mentions it."""
    folder_with(tmp_path / "model", model__onnx="")
    folder_with(tmp_path / "image", inference__py="import onnxruntime")
    own = folder_with(tmp_path / place, inference__py="def model_fn(d): ...") / "inference.py"
    choice = choose(tmp_path, runtime)
    assert (choice.program, choice.uses_model_fn) == (own, True)


def test_the_images_code_gives_way_to_a_model_that_it_does_not_know(tmp_path: Path) -> None:
    """22.1: the template's inference.py loads weights.pt; a model.onnx needs nobody."""
    folder_with(tmp_path / "model", model__onnx="")
    folder_with(tmp_path / "image", inference__py="import torch", network__py="")
    choice = choose(tmp_path)
    assert choice.program is None
    assert choice.reason.endswith("inference.py does not mention ONNX")


@pytest.mark.parametrize("text", ["import onnxruntime", "# reads MODEL.ONNX", "from helpers.Onnx import load"])
def test_the_images_code_stays_where_a_neighbour_of_it_mentions_onnx(tmp_path: Path, text: str) -> None:
    folder_with(tmp_path / "model", model__onnx="")
    image = folder_with(tmp_path / "image", inference__py="import network")
    folder_with(image / "parts", loader__py=text)
    assert code_is_about_onnx(image)
    assert choose(tmp_path).program == image / "inference.py"


def test_the_images_code_serves_any_other_model(tmp_path: Path) -> None:
    folder_with(tmp_path / "model", model__pt="")
    image = folder_with(tmp_path / "image", inference__py="")
    assert choose(tmp_path).program == image / "inference.py"


def test_python_keeps_the_images_code(tmp_path: Path) -> None:
    folder_with(tmp_path / "model", model__onnx="")
    image = folder_with(tmp_path / "image", inference__py="")
    assert choose(tmp_path, "python").program == image / "inference.py"


def test_onnx_leaves_model_fn_of_any_code_alone(tmp_path: Path) -> None:
    folder_with(tmp_path / "model", model__onnx="")
    own = folder_with(tmp_path / "model/code", inference__py="def input_fn(body, content_type): ...")
    choice = choose(tmp_path, "onnx")
    assert (choice.program, choice.uses_model_fn) == (own / "inference.py", False)


def test_onnx_without_such_a_model_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match=r"BYOC_RUNTIME is onnx, but .* holds no model"):
        choose(folder_with(tmp_path), "onnx")


def test_no_code_at_all_is_told(tmp_path: Path) -> None:
    assert choose(tmp_path) == Choice(None, True, False, "there is no inference.py")


# ONNX


def test_a_model_onnx_answers(exported: Path) -> None:
    """22.1: one input, one output: arrays as they are."""
    model = find_runtime(exported / "linear", OnnxOptions())
    answer = predict(model, [[1, 2, 3], [4, 5, 6]])
    assert (answer.shape, answer.dtype) == ((2, 2), np.float32)


def test_several_inputs_and_outputs_go_by_name(exported: Path) -> None:
    model = find_runtime(exported / "sums", OnnxOptions())
    answer = predict(model, {"left": [[1, 2, 3]], "right": [[1, 1, 1]]})
    assert {name: array.tolist() for name, array in answer.items()} == {
        "sum": [[2, 3, 4]],
        "difference": [[0, 1, 2]],
    }


def test_inputs_that_do_not_go_together_are_the_callers_mistake(exported: Path) -> None:
    model = find_runtime(exported / "sums", OnnxOptions())
    with pytest.raises(MalformedBody, match=r"'left' and 'right' share the length 'batch', but found 1 and 2"):
        predict(model, {"left": [[1, 2, 3]], "right": [[1, 1, 1], [2, 2, 2]]})


def test_the_only_onnx_file_may_have_another_name(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.onnx").write_bytes((exported / "linear/model.onnx").read_bytes())
    assert predict(find_runtime(tmp_path, OnnxOptions()), [[1, 2, 3]]).shape == (1, 2)


def test_a_model_is_run_once_before_it_is_ready(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sagemaker_byoc"):
        find_runtime(exported / "linear", OnnxOptions())
    assert "is served by ONNX Runtime, and is warm" in caplog.text


def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    folder_with(tmp_path, model__onnx="no model")
    with pytest.raises(UserCodeError, match=r"ONNX Runtime .* cannot load .*model\.onnx"):
        find_runtime(tmp_path, OnnxOptions())


def test_telemetry_is_off(exported: Path) -> None:
    """13.10: nothing is sent to the maker of a library, whatever made it be imported first."""
    import os

    find_runtime(exported / "linear", OnnxOptions())
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize(
    ("wanted", "device", "available", "chosen"),
    [
        ([], "cpu", GPU, ["CPUExecutionProvider"]),
        ([], "cuda:0", GPU, ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        ([], "cuda:0", CPU_ONLY, ["CPUExecutionProvider"]),
        (["tensorrt", "CUDA", "CPUExecutionProvider"], "cuda:0", GPU, GPU),
    ],
)
def test_providers_suit_the_device_or_what_was_asked_for(
    wanted: list[str], device: str, available: list[str], chosen: list[str]
) -> None:
    """0.5: the same image starts with no GPU."""
    assert choose_providers(wanted, device, available) == chosen


def test_a_provider_that_is_not_there_stops_the_start() -> None:
    with pytest.raises(UserCodeError, match=r"BYOC_ONNX_PROVIDERS names tensorrt, which .* it has Azure"):
        choose_providers(["tensorrt"], "cuda:0", CPU_ONLY)


# PyTorch


def test_torchscript_answers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3, 2).eval()
    torch.jit.script(linear).save(str(tmp_path / "model.pt"))
    answer = predict(find_runtime(tmp_path, OnnxOptions()), np.array([[1, 2, 3]]))
    assert torch.equal(answer, linear(torch.tensor([[1.0, 2.0, 3.0]])))


def test_torchscript_with_an_embedding_looks_up_whole_numbers(tmp_path: Path) -> None:
    torch.jit.script(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))).save(str(tmp_path / "model.pth"))
    assert predict(find_runtime(tmp_path, OnnxOptions()), [[1, 2, 3]]).shape == (1, 3, 2)


def test_an_exported_program_answers_and_checks_its_input(tmp_path: Path) -> None:
    linear = nn.Linear(3, 2)
    rows = torch.export.Dim("rows")
    torch.export.save(
        torch.export.export(linear, (torch.rand(2, 3),), dynamic_shapes=({0: rows},)), tmp_path / "model.pt2"
    )
    model = find_runtime(tmp_path, OnnxOptions())
    assert predict(model, [[1, 2, 3]] * 5).shape == (5, 2)
    with pytest.raises(MalformedBody, match=r"'input' expects float32 of shape \(\w+, 3\), but found shape \(1, 2\)"):
        predict(model, [[1, 2]])


def test_a_predict_fn_gets_the_module_itself(tmp_path: Path) -> None:
    """22.2: as AWS's PyTorch image loads model.pt for a script without model_fn; pickles are that script's business."""
    torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "model.pt"))
    module = find_runtime(tmp_path, OnnxOptions(), for_predict_fn=True)
    assert module.eval()(torch.rand(1, 3)).shape == (1, 2)
    (tmp_path / "model.pt").rename(tmp_path / "model.pkl")
    assert find_runtime(tmp_path, OnnxOptions(), for_predict_fn=True) is None


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    """Somebody has to say which network they belong to."""
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "model.pt")
    assert find_runtime(tmp_path, OnnxOptions()) is None


def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    """13.6."""
    assert find_runtime(tmp_path, OnnxOptions()) is None
    assert preloadable(tmp_path) == ()


def test_compiling_needs_a_compiler_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserCodeError, match=r"BYOC_TORCH_COMPILE is on, but none of c\+\+, .* is installed"):
        compile_model(nn.Linear(2, 2))


def test_compiling_leaves_what_is_no_module_alone(caplog: pytest.LogCaptureFixture) -> None:
    value = object()
    assert compile_model(value) is value
    assert "model_fn returned a object, not a torch.nn.Module" in caplog.text


def test_a_compiled_model_gives_the_same_answers_and_keeps_its_class() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).eval()
    rows = torch.rand(4, 3)
    with torch.inference_mode():
        before = model(rows)
        compiled = compile_model(model)
        after = compiled(rows)
    assert type(compiled) is nn.Linear
    torch.testing.assert_close(after, before)


# Pickles


def test_a_pickled_model_is_left_alone_unless_that_is_allowed(tmp_path: Path) -> None:
    """A model's file may run any code."""
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), tmp_path / "model.joblib")
    with pytest.raises(UserCodeError, match=r"model\.joblib is a pickle, .* set BYOC_ALLOW_PICKLE=true"):
        find_runtime(tmp_path, OnnxOptions())
    model = find_runtime(tmp_path, OnnxOptions(), allow_pickle=True)
    assert predict(model, [[3.0]]).tolist() == pytest.approx([6.0])


def test_what_cannot_predict_is_told(tmp_path: Path) -> None:
    joblib.dump([1, 2], tmp_path / "model.pkl")
    with pytest.raises(UserCodeError, match="holds a list, which has no predict method"):
        find_runtime(tmp_path, OnnxOptions(), allow_pickle=True)


# What the master imports


def test_the_runtimes_libraries_are_known_before_the_model_is_loaded(exported: Path, tmp_path: Path) -> None:
    assert preloadable(exported / "linear") == ("numpy", "onnxruntime")
    torch.jit.script(nn.Linear(3, 2)).save(str(tmp_path / "model.pt"))
    assert preloadable(tmp_path) == ("numpy", "torch")

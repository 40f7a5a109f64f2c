"""Which code serves a model, and which runtime where no code loads it."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sagemaker_byoc.errors import UserCodeError

if TYPE_CHECKING:
    from sagemaker_byoc.serving.onnx_runtime import OnnxOptions

log = logging.getLogger(__name__)

PICKLES = (".joblib", ".pkl", ".pickle")


class RuntimeModel(Protocol):
    """A model that needs no code of the user's."""

    def predict(self, data: Any) -> Any: ...


@dataclass(frozen=True)
class Choice:
    """The program to import, if any; whether its model_fn, if it has one, loads the model; whether a runtime can; and
    why, for the log.
    """

    program: Path | None
    uses_model_fn: bool
    has_runtime: bool
    reason: str


def choose_code(program: str, own: Sequence[Path], image: Path, model_dir: Path, runtime: str = "auto") -> Choice:
    """Which file named `program` serves the model.

    What lies in a folder of the model's or the job's (`own`) wins. The image's own is passed over where the model is a
    model.onnx of which that code knows nothing. `runtime` is `auto`, `python` or `onnx`. Raises UserCodeError where it
    is `onnx` and there is no such model.
    """
    model = find_onnx(model_dir)
    if runtime == "onnx" and model is None:
        raise UserCodeError(
            f"BYOC_RUNTIME is onnx, but {model_dir} holds no model.onnx. Put one there or leave it out."
        )
    uses_model_fn = runtime != "onnx"
    has_runtime = runtime != "python" and _has_runtime(model_dir)
    for folder in own:
        if (folder / program).is_file():
            return Choice(
                folder / program, uses_model_fn, has_runtime, f"{folder / program} lies with the model or the job"
            )
    default = image / program
    if not default.is_file():
        return Choice(None, uses_model_fn, has_runtime, f"there is no {program}")
    if model and runtime != "python" and not code_is_about_onnx(image):
        return Choice(None, uses_model_fn, has_runtime, f"{model} is served as it is: {default} does not mention ONNX")
    return Choice(default, uses_model_fn, has_runtime, f"{default} is the image's own")


def code_is_about_onnx(folder: Path) -> bool:
    """Whether any Python file of a folder, or of the folders in it, mentions ONNX."""
    return any(re.search(rb"onnx", file.read_bytes(), re.IGNORECASE) for file in folder.rglob("*.py") if file.is_file())


def find_runtime(
    model_dir: Path, options: "OnnxOptions", *, allow_pickle: bool = False, for_predict_fn: bool = False
) -> Any:
    """The model in a folder, a RuntimeModel, by the first of: model.onnx, model.pt2, model.pt or model.pth with
    TorchScript, model.joblib or model.pkl. None when there is none of them.

    A pickle may run any code, so the last two need `allow_pickle`. A predict_fn of the user's (`for_predict_fn`) gets
    PyTorch's bare module, as in AWS's images, and reads pickles itself. Raises UserCodeError for what cannot be loaded.
    """
    onnx = find_onnx(model_dir)
    if onnx:
        from sagemaker_byoc.serving.onnx_runtime import OnnxModel  # noqa: PLC0415 - what is not served is not imported

        model = OnnxModel.load(onnx, options)
        warm = model.warm_up()
        log.info(
            "%s is served by ONNX Runtime, %s", onnx, "and is warm" if warm else "its shapes are free: not warmed up"
        )
        return model
    from sagemaker_byoc.serving.torch_runtime import ExportedModel, ScriptedModel, is_torchscript  # noqa: PLC0415

    if (model_dir / "model.pt2").is_file():
        log.info("%s is served as torch.export wrote it", model_dir / "model.pt2")
        exported = ExportedModel.load(model_dir / "model.pt2", options.device)
        return exported.module if for_predict_fn else exported
    for path in (model_dir / "model.pt", model_dir / "model.pth"):
        if is_torchscript(path):
            log.info("%s is served by TorchScript", path)
            scripted = ScriptedModel.load(path, options.device)
            return scripted.module if for_predict_fn else scripted
    return None if for_predict_fn else _find_pickle(model_dir, allow_pickle)


def find_onnx(model_dir: Path) -> Path | None:
    """model.onnx, or the only file of this kind."""
    if (model_dir / "model.onnx").is_file():
        return model_dir / "model.onnx"
    found = sorted(model_dir.glob("*.onnx"))
    return found[0] if len(found) == 1 else None


def preloadable(model_dir: Path) -> tuple[str, ...]:
    """The modules that find_runtime will need, for gunicorn's master to import before it forks."""
    if find_onnx(model_dir):
        return ("numpy", "onnxruntime")
    from sagemaker_byoc.serving.torch_runtime import is_torchscript  # noqa: PLC0415 - what is not served is not imported

    if (model_dir / "model.pt2").is_file() or any(is_torchscript(model_dir / f"model.{end}") for end in ("pt", "pth")):
        return ("numpy", "torch")
    return ()


def _find_pickle(model_dir: Path, allow_pickle: bool) -> RuntimeModel | None:
    path = _pickle(model_dir)
    if path is None:
        return None
    if not allow_pickle:
        raise UserCodeError(
            f"{path} is a pickle, which can run any code when it is loaded, so it is left alone. Where you trust it, "
            "set BYOC_ALLOW_PICKLE=true; or write an inference.py whose model_fn loads it; or convert it to model.onnx."
        )
    try:
        import joblib  # noqa: PLC0415 - only who asks for it pays for it
    except ImportError:
        raise UserCodeError(f"{path} needs joblib, which is not installed; add it to your requirements.txt.") from None
    model: RuntimeModel = joblib.load(path, mmap_mode="r")
    if not hasattr(model, "predict"):
        raise UserCodeError(
            f"{path} holds a {type(model).__name__}, which has no predict method; write an inference.py."
        )
    log.info("%s is unpickled and served by its predict method", path)
    return model


def _has_runtime(model_dir: Path) -> bool:
    """Whether find_runtime has something to load, or to refuse."""
    return bool(preloadable(model_dir)) or _pickle(model_dir) is not None


def _pickle(model_dir: Path) -> Path | None:
    return next((path for end in PICKLES if (path := model_dir / f"model{end}").is_file()), None)

"""Models that PyTorch has saved with their code, torch.export's .pt2 and TorchScript; and torch.compile on demand."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.errors import UserCodeError
from sagemaker_byoc.serving import codecs
from sagemaker_byoc.serving.tensors import TensorInput, read_inputs

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_TEXTS = (codecs.JSON, codecs.JSON_LINES, codecs.CSV)
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class ExportedModel:
    """A .pt2: its inputs are declared, so that a request can be checked against them."""

    module: Any
    inputs: tuple[TensorInput, ...]
    device: str

    @classmethod
    def load(cls, path: Path, device: str) -> "ExportedModel":
        """Raises UserCodeError for a file that torch.export cannot load here."""
        import torch  # noqa: PLC0415 - only who asks for it pays for it
        from torch.export.passes import move_to_device_pass  # noqa: PLC0415

        try:
            exported = torch.export.load(path)
        except Exception as error:
            raise UserCodeError(f"torch.export {torch.__version__} cannot load {path}: {error}") from error
        if device != "cpu":
            exported = move_to_device_pass(exported, device)
        names = exported.graph_signature.user_inputs
        nodes = {node.name: node.meta["val"] for node in exported.graph.nodes if node.op == "placeholder"}
        inputs = tuple(_declared(str(name), nodes[str(name)]) for name in names)
        return cls(exported.module(), inputs, device)

    def predict(self, data: Any) -> Any:
        """What the model returns. Raises MalformedBody for data that it cannot take."""
        import torch  # noqa: PLC0415

        arrays = read_inputs(data, self.inputs)
        with torch.inference_mode():
            return self.module(*(_tensor(arrays[one.name], self.device) for one in self.inputs))


@dataclass(frozen=True)
class ScriptedModel:
    """A TorchScript file, or any module. It does not say what it takes: numbers become the type of its parameters, but
    whole numbers stay whole where it looks things up in an embedding.
    """

    module: Any
    dtype: Any
    keeps_whole_numbers: bool
    device: str

    @classmethod
    def load(cls, path: Path, device: str) -> "ScriptedModel":
        """Raises UserCodeError for a file that is damaged."""
        import torch  # noqa: PLC0415 - only who asks for it pays for it

        try:
            load: Any = torch.jit.load  # it has no types
            module = load(str(path), map_location=device).eval()
        except RuntimeError as error:
            raise UserCodeError(f"torch.jit {torch.__version__} cannot load {path}: {error}") from error
        return cls.of(module, device)

    @classmethod
    def of(cls, module: Any, device: str) -> "ScriptedModel":
        """A module that is on its device already."""
        import torch  # noqa: PLC0415

        floats = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
        parts = {getattr(part, "original_name", type(part).__name__) for part in module.modules()}
        looks_up = bool(parts & {"Embedding", "EmbeddingBag"})
        return cls(module, next(floats, torch.float32), looks_up, device)

    def predict(self, data: Any) -> Any:
        """What the model returns for an array, or for arrays by the names of its arguments."""
        import torch  # noqa: PLC0415

        with torch.inference_mode():
            if isinstance(data, Mapping):
                return self.module(**{name: self._read(value) for name, value in data.items()})
            return self.module(self._read(data))

    def _read(self, data: Any) -> "torch.Tensor":
        tensor = _tensor(data, self.device)
        if self.keeps_whole_numbers and not tensor.is_floating_point():
            return tensor
        return tensor.to(self.dtype)


def is_torchscript(path: Path) -> bool:
    """Whether a .pt holds code, and not only weights."""
    import zipfile  # noqa: PLC0415 - most models have no such file

    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def find_module_predict(value: Any, device: str) -> Callable[[Any], Any] | None:
    """How a module that model_fn returned predicts, from arrays, as in AWS's images for PyTorch: on its device, in
    evaluation mode. None for anything else.
    """
    torch = sys.modules.get("torch")  # no module without it
    if torch is None or not isinstance(value, torch.nn.Module):
        return None
    return ScriptedModel.of(value.to(device).eval(), device).predict


def tensor_of(data: Any, content_type: str, device: str) -> Any:
    """An array of numbers as a tensor on the model's device; anything else as it is.

    What came as text becomes float32, arrays keep their type. Source: the default input_fn of AWS's PyTorch images.
    """
    import numpy as np  # noqa: PLC0415 - whoever has a module of PyTorch has both
    import torch  # noqa: PLC0415

    if not isinstance(data, np.ndarray) or data.dtype.kind not in "biuf":
        return data
    if content_type in _TEXTS:
        data = data.astype(np.float32)
    return torch.from_numpy(np.require(data, requirements="W")).to(device)


def compile_model(value: Any) -> Any:
    """What model_fn returned, so that its next call compiles it, if it is a module of PyTorch; in place, so that its
    class and attributes stay what they are. Raises UserCodeError where no compiler is installed.
    """
    import shutil  # noqa: PLC0415 - only who asks for it pays for it

    import torch  # noqa: PLC0415

    if not isinstance(value, torch.nn.Module):
        log.warning(
            "BYOC_TORCH_COMPILE does nothing: model_fn returned a %s, not a torch.nn.Module", type(value).__name__
        )
        return value
    if not any(shutil.which(name) for name in COMPILERS):
        raise UserCodeError(
            f"BYOC_TORCH_COMPILE is on, but none of {', '.join(COMPILERS)} is installed, which torch.compile needs; "
            "install g++ in your image, or leave BYOC_TORCH_COMPILE out."
        )
    value.compile()
    log.info(
        "torch.compile: the model is compiled when it is first called; model_warmup_fn can do that before it is ready"
    )
    return value


def _tensor(data: Any, device: str) -> "torch.Tensor":
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    if isinstance(data, torch.Tensor):
        return data.to(device)
    return torch.from_numpy(np.require(data, requirements="W")).to(device)  # a body's own bytes cannot be written to


def _declared(name: str, example: Any) -> TensorInput:
    shape = tuple(length if isinstance(length, int) else str(length) for length in example.shape)
    return TensorInput(name, str(example.dtype).removeprefix("torch."), shape)

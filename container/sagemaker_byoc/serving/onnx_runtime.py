"""A model.onnx served by ONNX Runtime, without code of the user's."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagemaker_byoc.errors import MalformedBody, UserCodeError
from sagemaker_byoc.onnx_import import import_onnxruntime
from sagemaker_byoc.serving.onnx_sharing import shared_copy
from sagemaker_byoc.serving.tensors import ANY, TEXT, TensorInput, read_inputs

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    "string": TEXT,
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class OnnxOptions:
    """How a model is run: the slot's device, threads of one operation, execution providers in order of preference (none
    named: CUDA on a GPU, else CPU), and the folder for a copy that workers share, if there are several.
    """

    device: str = "cpu"
    threads: int = 1
    providers: tuple[str, ...] = ()
    shared_folder: Path | None = None


@dataclass(frozen=True)
class OnnxModel:
    """A session, its inputs, and the names of its outputs. Threads may use it at the same time."""

    path: Path
    session: Any
    inputs: tuple[TensorInput, ...]
    outputs: tuple[str, ...]
    invalid_argument: type[Exception]

    @classmethod
    def load(cls, path: Path, options: OnnxOptions) -> "OnnxModel":
        """Raises UserCodeError for a model that cannot be run here."""
        onnxruntime = import_onnxruntime(str(path))
        providers = choose_providers(options.providers, options.device, onnxruntime.get_available_providers())
        session = _start_session(onnxruntime, path, options, providers)
        used = session.get_providers()
        if providers[0] not in used:
            log.warning("%s runs on %s: %s could not be started", path, ", ".join(used), providers[0])
        return cls(
            path=path,
            session=session,
            inputs=tuple(_input(one, path) for one in session.get_inputs()),
            outputs=tuple(one.name for one in session.get_outputs()),
            invalid_argument=onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
        )

    def predict(self, data: Any) -> Any:
        """The array of one output, or several by name. Raises MalformedBody for data that the model cannot take."""
        arrays = read_inputs(data, self.inputs)
        try:
            answers = self.session.run(None, arrays)
        except self.invalid_argument as error:
            raise MalformedBody(f"the model cannot take this: {error}") from error
        return answers[0] if len(answers) == 1 else dict(zip(self.outputs, answers, strict=True))

    def warm_up(self) -> bool:
        """Run once on zeros, so that no caller pays for what happens only once. Whether the shapes are known enough."""
        arrays = {one.name: _zeros(one) for one in self.inputs}
        if any(array is None for array in arrays.values()):
            return False
        try:
            self.session.run(None, arrays)
        except Exception as error:  # noqa: BLE001 - zeros may be no valid input
            log.info("%s could not be warmed up with zeros: %s", self.path, error)
            return False
        return True


def choose_providers(wanted: Sequence[str], device: str, available: Sequence[str]) -> list[str]:
    """ONNX Runtime's names for what was asked for, which may be short (`cuda`), or what suits the device.

    Raises UserCodeError for one that this build of ONNX Runtime lacks.
    """
    if not wanted:
        if device.startswith("cuda") and CUDA not in available:
            log.warning("this ONNX Runtime knows no GPU, so the CPU is used; install onnxruntime-gpu")
        return [CUDA, CPU] if device.startswith("cuda") and CUDA in available else [CPU]
    known = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    missing = [name for name in wanted if name.removesuffix("ExecutionProvider").lower() not in known]
    if missing:
        raise UserCodeError(
            f"BYOC_ONNX_PROVIDERS names {', '.join(missing)}, which the installed ONNX Runtime does not have; "
            f"it has {', '.join(available)}. TensorRT and CUDA come with onnxruntime-gpu."
        )
    return [known[name.removesuffix("ExecutionProvider").lower()] for name in wanted]


def _start_session(onnxruntime: Any, path: Path, options: OnnxOptions, providers: list[str]) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared with other workers
    copy = shared_copy(path, options.shared_folder) if options.shared_folder and providers == [CPU] else None
    if copy:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # that is done
    try:
        return onnxruntime.InferenceSession(str(copy or path), settings, providers=providers)
    except Exception as error:
        raise UserCodeError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error


def _input(declared: Any, path: Path) -> TensorInput:
    kind = str(declared.type).removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES or not str(declared.type).startswith("tensor("):
        raise UserCodeError(
            f"input {declared.name!r} of {path} is a {declared.type}, which no request can bring as it is; "
            "write an inference.py with a model_fn and a predict_fn."
        )
    shape = tuple(
        length if isinstance(length, int) and length >= 0 else str(length or ANY) for length in declared.shape
    )
    return TensorInput(declared.name, _DTYPES[kind], shape)


def _zeros(one: TensorInput) -> Any:
    """One row of nothing, or None where more than the number of rows is free."""
    import numpy as np  # noqa: PLC0415 - a server starts without it

    if any(isinstance(length, str) for length in one.shape[1:]):
        return None
    shape = [1 if isinstance(length, str) else length for length in one.shape]
    return np.full(shape, "", object) if one.dtype == TEXT else np.zeros(shape, one.dtype)

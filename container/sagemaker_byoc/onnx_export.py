"""Write a PyTorch model for ONNX Runtime, and only one that gives the same answers.

Needs the packages of `sagemaker-byoc[export]`, where the model is exported; not where it is served.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sagemaker_byoc.onnx_import import import_onnxruntime

if TYPE_CHECKING:
    import numpy as np
    import torch

EXTRA = 'pip install "sagemaker-byoc[export]"'
OTHER_BATCHES = (1, 3, 8)
_INLINE_BYTES = 2**30  # a model file cannot be larger than 2 GiB; weights beyond this go into a file beside it


class ParityError(ValueError):
    """ONNX Runtime answers otherwise than PyTorch."""


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime was from PyTorch: the largest difference of two numbers, as a share of the largest number of
    that output where this is above 1; and the batch sizes that were tried.
    """

    largest_difference: float
    tolerance: float
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Quantization:
    """What 8 bits for a weight cost and save: file sizes, the largest difference as in Parity, and the share of rows in
    which the largest number stays the largest, as a classifier would have it.
    """

    bytes_before: int
    bytes_after: int
    largest_difference: float
    agreement: float


def export_onnx(
    model: "torch.nn.Module",
    example_inputs: Any,
    path: str | Path,
    *,
    tolerance: float = 1e-4,
    dynamic_batch: bool = True,
) -> Parity:
    """Write `model` to `path` once it has given the outputs of PyTorch, on the examples and on random inputs.

    `example_inputs` is a tensor, a tuple of them in the order of `forward`, or a dict by the names of its arguments.
    With `dynamic_batch` the first length of each input is free, and other batch sizes are tried too. Tolerance and
    largest difference are written into the model's metadata. Raises ParityError with figures, and then writes nothing;
    UserCodeError or ImportError, saying what to install, where packages are missing.
    """
    torch = _import_torch()
    path = Path(path)
    examples = _as_dict(model, example_inputs)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            expected = _flat(model(**examples))
        program = _export(torch, model, examples, [name for name, _ in expected], dynamic_batch)
        batches = [examples, *(_like(torch, examples, rows) for rows in (OTHER_BATCHES if dynamic_batch else ()))]
        with _unfinished(path) as unfinished:
            _save(program, unfinished)
            parity = _compare(torch, model, unfinished, batches, tolerance)
            program.model.metadata_props.update(_metadata(parity, torch.__version__))
            _save(program, unfinished)
    finally:
        model.train(training)
    return parity


def quantize_onnx(path: str | Path, quantized: str | Path, example_inputs: Mapping[str, Any]) -> Quantization:
    """Write a smaller model, with 8 bits for each weight of a matrix product, and tell what that costs.

    `example_inputs` are arrays by the names of the inputs; the more rows of real data, the more the figures mean.
    Convolutions stay as they are: ONNX Runtime has no such form of them that is quick. Raises UserCodeError or
    ImportError, saying what to install, where packages are missing.
    """
    onnxruntime = import_onnxruntime("quantize_onnx")
    try:
        import onnx  # noqa: PLC0415 - only needed here
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - only needed here
    except ImportError as error:
        raise ImportError(f"quantize_onnx needs onnx ({error}): {EXTRA}") from None
    path, quantized = Path(path), Path(quantized)
    model = onnx.load(path)
    del model.graph.value_info[:]  # the shapes that the exporter notes contradict those after quantisation
    with _quiet("root"), _unfinished(quantized) as unfinished:
        quantize_dynamic(
            model, unfinished, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True
        )
    before = _run(onnxruntime, path, example_inputs)
    after = _run(onnxruntime, quantized, example_inputs)
    return Quantization(
        bytes_before=_size(path),
        bytes_after=_size(quantized),
        largest_difference=max(_difference(one, other) for one, other in zip(before, after, strict=True)),
        agreement=min(_agreement(one, other) for one, other in zip(before, after, strict=True)),
    )


def _import_torch() -> Any:
    import_onnxruntime("export_onnx, which compares with it,")
    try:
        import onnx  # noqa: F401, PLC0415 - asked for here, to say what is missing
        import onnxscript  # noqa: F401, PLC0415
        import torch  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(f"export_onnx needs torch, onnx and onnxscript ({error}): {EXTRA}") from None
    return torch


def _as_dict(model: "torch.nn.Module", inputs: Any) -> dict[str, Any]:
    """Inputs by the names of forward's arguments."""
    import inspect  # noqa: PLC0415 - not needed to serve

    if isinstance(inputs, Mapping):
        return dict(inputs)
    values = inputs if isinstance(inputs, tuple | list) else (inputs,)
    names = list(inspect.signature(model.forward).parameters)
    if len(values) > len(names):
        raise ValueError(f"{len(values)} example inputs for {type(model).__name__}.forward({', '.join(names)})")
    return dict(zip(names, values, strict=False))


def _export(torch: Any, model: Any, examples: Mapping[str, Any], outputs: list[str], dynamic_batch: bool) -> Any:
    rows = torch.export.Dim("batch")
    # A length of 1 would be taken for a constant.
    traced = {name: torch.cat([one, one]) if dynamic_batch and len(one) == 1 else one for name, one in examples.items()}
    with _quiet("torch.onnx"):
        return torch.onnx.export(
            model,
            kwargs=traced,
            dynamo=True,
            verbose=False,
            input_names=list(examples),
            output_names=outputs,
            dynamic_shapes={name: {0: rows} for name in examples} if dynamic_batch else None,
        )


def _save(program: Any, path: Path) -> None:
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values() if value.const_value)
    program.save(path, external_data=size > _INLINE_BYTES)


def _compare(torch: Any, model: Any, path: Path, batches: Sequence[Mapping[str, Any]], tolerance: float) -> Parity:
    onnxruntime = import_onnxruntime("export_onnx")
    worst = 0.0
    sizes = []
    for inputs in batches:
        with torch.inference_mode():
            expected = _flat(model(**inputs))
        found = _run(onnxruntime, path, {name: one.detach().cpu().numpy() for name, one in inputs.items()})
        size = next((len(one) for one in inputs.values() if one.ndim), 0)
        sizes.append(size)
        for (name, one), other in zip(expected, found, strict=True):
            difference = _difference(one.detach().cpu().numpy(), other)
            if not difference <= tolerance:
                raise ParityError(
                    f"output {name!r} of ONNX Runtime differs from PyTorch's by {difference:.3g} at batch size {size}; "
                    f"tolerated is {tolerance:g}. Allow more, or look for what depends on chance or on the batch size."
                )
            worst = max(worst, difference)
    return Parity(worst, tolerance, tuple(dict.fromkeys(sizes)))


def _run(onnxruntime: Any, path: Path, inputs: Mapping[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answers: list[Any] = session.run(None, dict(inputs))
    return answers


def _difference(expected: "np.ndarray[Any, Any]", found: "np.ndarray[Any, Any]") -> float:
    """Infinite where shapes differ, or where only one of two numbers is one."""
    import numpy as np  # noqa: PLC0415 - not needed to import this

    if expected.shape != found.shape:
        return float("inf")
    if not expected.size:
        return 0.0
    one, other = expected.astype(np.float64), found.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    if not np.isfinite(one[~same]).all() or not np.isfinite(other[~same]).all():
        return float("inf")
    largest = np.abs(one[np.isfinite(one)]).max(initial=1.0)
    return float(np.abs(one[~same] - other[~same]).max(initial=0.0) / largest)


def _agreement(expected: "np.ndarray[Any, Any]", found: "np.ndarray[Any, Any]") -> float:
    if expected.ndim < 2 or expected.shape != found.shape or not expected.size:
        return float(expected.shape == found.shape)
    return float((expected.argmax(-1) == found.argmax(-1)).mean())


def _like(torch: Any, examples: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Random inputs of another batch size: numbers spread as the examples are, whole ones drawn from among them."""
    generator = torch.Generator().manual_seed(rows)
    made = {}
    for name, one in examples.items():
        values = one.detach().cpu().flatten()
        picks = torch.randint(len(values), (rows, *one.shape[1:]), generator=generator)
        made[name] = values[picks]
        if one.is_floating_point():
            spread = values.float().std(correction=0) or 1.0
            made[name] = made[name] + spread * torch.randn(made[name].shape, generator=generator).to(one.dtype)
        made[name] = made[name].to(device=one.device, dtype=one.dtype)
    return made


def _flat(outputs: Any) -> list[tuple[str, Any]]:
    """The tensors of what a model returns, by name: a dict's keys, else `output`, numbered if there are more."""
    if isinstance(outputs, Mapping):
        return [(str(name), value) for name, value in outputs.items()]
    if isinstance(outputs, tuple | list):
        return [(f"output_{number}", value) for number, value in enumerate(outputs)]
    return [("output", outputs)]


def _metadata(parity: Parity, version: str) -> dict[str, str]:
    return {
        "sagemaker_byoc.tolerance": f"{parity.tolerance:g}",
        "sagemaker_byoc.largest_difference": f"{parity.largest_difference:.3g}",
        "sagemaker_byoc.batch_sizes": ",".join(map(str, parity.batch_sizes)),
        "sagemaker_byoc.torch": version,
    }


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


@contextlib.contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A folder beside the file, where it may grow under its own name; its files move up when all is well."""
    import tempfile  # noqa: PLC0415 - not needed to import this

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        yield Path(folder) / path.name
        for file in sorted(Path(folder).iterdir(), reverse=True):  # weights first
            os.replace(file, path.parent / file.name)  # noqa: PTH105 - over what is there


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Notes on packages that are not needed stay unsaid."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)

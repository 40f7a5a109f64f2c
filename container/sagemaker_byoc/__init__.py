"""The runtime of a SageMaker container.

A `train.py` needs nothing from here, and may use `sagemaker_byoc.checkpoints` and `sagemaker_byoc.channels`, and
`export_onnx` at its end. An `inference.py` may use `decode` and `encode`, the codecs that serve requests by default,
`load_weights` and `assign_weights`, and
`batched`, which lets `predict_fn` take several requests at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagemaker_byoc.onnx_export import export_onnx, quantize_onnx
    from sagemaker_byoc.serving.batching import batched
    from sagemaker_byoc.serving.codecs import decode, encode
    from sagemaker_byoc.weights import assign_weights, load_weights

__all__ = ["assign_weights", "batched", "decode", "encode", "export_onnx", "load_weights", "quantize_onnx"]

_HOMES = {
    "assign_weights": "sagemaker_byoc.weights",
    "batched": "sagemaker_byoc.serving.batching",
    "decode": "sagemaker_byoc.serving.codecs",
    "encode": "sagemaker_byoc.serving.codecs",
    "export_onnx": "sagemaker_byoc.onnx_export",
    "load_weights": "sagemaker_byoc.weights",
    "quantize_onnx": "sagemaker_byoc.onnx_export",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: the training launcher imports this package and must not pay for numpy.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

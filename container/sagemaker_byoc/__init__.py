"""The runtime of a SageMaker container.

A `train.py` needs nothing from here, and may use `sagemaker_byoc.checkpoints` and `sagemaker_byoc.channels`. An
`inference.py` may use `decode` and `encode`, the codecs that serve requests by default.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sagemaker_byoc.serving.codecs import decode, encode

__all__ = ["decode", "encode"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the training launcher imports this package and must not pay for numpy.
    if name in __all__:
        from sagemaker_byoc.serving import codecs  # noqa: PLC0415

        return getattr(codecs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""ONNX Runtime without its telemetry: since 1.29 its official builds send events to their maker, with a thread and
a file of their own, unless they are told not to before they are imported.
"""

import os
from types import ModuleType

from sagemaker_byoc.errors import UserCodeError

NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime(what_for: str) -> ModuleType:
    """The module. Raises UserCodeError where it is not installed, saying what needs it."""
    os.environ.setdefault(NO_TELEMETRY, "1")
    try:
        import onnxruntime  # noqa: PLC0415 - only who asks for it pays for it
    except ImportError as error:
        raise UserCodeError(
            f"{what_for} needs ONNX Runtime, which cannot be imported here ({error}); "
            "add onnxruntime, or onnxruntime-gpu, to your requirements.txt."
        ) from None
    module: ModuleType = onnxruntime
    return module

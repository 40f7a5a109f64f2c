"""The one way into sagemaker-training: its modules are imported only where a job or a model needs one."""

import importlib
import os
from typing import Any

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"


def import_toolkit(module: str) -> Any:
    """A module of sagemaker-training. Importing it makes folders below its base, so it is given a scratch one."""
    import tempfile  # noqa: PLC0415 - this is slow anyway

    before = os.environ.get(BASE_VARIABLE)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[BASE_VARIABLE] = scratch
        try:
            return importlib.import_module(f"sagemaker_training.{module}")
        finally:
            os.environ.pop(BASE_VARIABLE)
            if before is not None:
                os.environ[BASE_VARIABLE] = before

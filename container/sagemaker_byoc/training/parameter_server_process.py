"""One parameter server of TensorFlow, a program of its own: it serves until the launcher ends it with a signal."""

import importlib
import os
import sys
from typing import Any

from sagemaker_byoc.errors import ByocError, PlatformInputError, UserCodeError
from sagemaker_byoc.training.parameter_server import ServerTask


def main() -> int:
    """Serve; returns only when that could not begin, with the exit code."""
    try:
        _serve(ServerTask.read(os.environ))
    except ByocError as error:
        print(f"sagemaker-byoc: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _serve(task: ServerTask) -> None:
    """Raises UserCodeError without TensorFlow, PlatformInputError when the address cannot be listened on."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the GPUs are the script's: TensorFlow would take all of their memory
    tensorflow = _import_tensorflow()
    cluster = tensorflow.train.ClusterSpec(dict(task.cluster))
    try:
        server = tensorflow.distribute.Server(cluster, job_name=task.kind, task_index=task.index)
    except tensorflow.errors.OpError as error:
        raise PlatformInputError(
            f"the parameter server could not listen on {task.address}, as TF_CONFIG says: {error}. "
            "Is another process on that port?"
        ) from error
    print(f"sagemaker-byoc: parameter server {task.index} serves on {task.address}", file=sys.stderr, flush=True)
    server.join()


def _import_tensorflow() -> Any:
    """By name, as the runtime itself needs no framework and is installed without one."""
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise UserCodeError(
            f"sagemaker_parameter_server_enabled asks for TensorFlow's parameter servers, but: {error}. Put tensorflow "
            "(or tensorflow-cpu) into requirements.txt and build the image again; for PyTorch use torch.distributed."
        ) from error


if __name__ == "__main__":
    raise SystemExit(main())

"""A copy of an ONNX model from which every worker maps the same pages.

ONNX Runtime copies weights out of `model.onnx`, and packs those of matrix products once more, in each process. It can
also write what it has packed to a file of its own, and map that. Such a copy is good for this machine only, so the
first worker has it made beside the endpoint's other files, and the others wait for it.

Run as a module, `python -m sagemaker_byoc.serving.onnx_sharing MODEL COPY`: a process that ends gives its memory back.
"""

import fcntl
import logging
import sys
from pathlib import Path

from sagemaker_byoc.onnx_import import import_onnxruntime

log = logging.getLogger(__name__)

WORTH_SHARING = 32 * 2**20  # bytes; less is loaded sooner than prepared
_ROOM = 2.2  # the copy holds weights as they were and packed
_IN_FILE = 1024  # bytes; smaller tensors stay in the model's graph


def shared_copy(model: Path, folder: Path) -> Path | None:
    """The copy of this model, made now if no other worker has; None where sharing is not worth it or not possible."""
    size = weights_size(model)
    if size < WORTH_SHARING:
        return None
    place = folder / f"onnx-{_key(model)}"
    with (folder / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if place.is_dir():
            return place / model.name
        refused = folder / f"{place.name}.refused"
        if refused.exists():
            return None
        reason = _make(model, place, size)
        if reason:
            refused.touch()
            log.warning("%s is loaded by each worker for itself, in %d MB each: %s", model, size >> 20, reason)
            return None
    return place / model.name


def weights_size(model: Path) -> int:
    """Bytes of a model and of the files beside it that hold its weights."""
    return sum(file.stat().st_size for file in _files(model))


def write_copy(model: Path, copy: Path) -> None:
    """Optimise for this machine, and write the result with packed weights in a file beside it."""
    onnxruntime = import_onnxruntime(str(model))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(copy)
    entries = {
        "optimized_model_external_initializers_file_name": f"{copy.name}.data",
        "optimized_model_external_initializers_min_size_in_bytes": str(_IN_FILE),
        "save_external_prepacked_constant_initializers": "1",
    }
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _make(model: Path, place: Path, size: int) -> str:
    """Why it could not be done, or nothing."""
    import shutil  # noqa: PLC0415 - only the first worker with a large model needs them
    import subprocess  # noqa: PLC0415

    free = shutil.disk_usage(place.parent).free
    if free < _ROOM * size:
        return (
            f"a shared copy takes {_ROOM * size / 2**20:.0f} MB below {place.parent}, where {free >> 20} MB are free."
        )
    making = place.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    command = [sys.executable, "-m", __name__, str(model), str(making / model.name)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return f"a shared copy could not be made: {last[0]}"
    making.rename(place)
    return ""


def _key(model: Path) -> str:
    """Another model, or another version of it, has another copy."""
    import hashlib  # noqa: PLC0415 - only a large model needs it

    states = [(str(file.resolve()), file.stat().st_mtime_ns, file.stat().st_size) for file in _files(model)]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:16]


def _files(model: Path) -> list[Path]:
    return sorted(file for file in model.parent.glob(f"{model.name}*") if file.is_file())


if __name__ == "__main__":
    write_copy(Path(sys.argv[1]), Path(sys.argv[2]))

"""A model's weights, memory-mapped: workers that load the same file share one copy of it, and nothing is unpickled."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module

log = logging.getLogger(__name__)

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
_ZIP = b"PK\x03\x04"


class WeightsError(ValueError):
    """A file of weights that cannot be loaded, or that does not fit the model."""


def load_weights(path: str | Path, device: str = "cpu", *, allow_pickle: bool = False) -> dict[str, Any]:
    """The tensors of a .safetensors file, or of a .pt, .pth, .bin or .ckpt that torch.save wrote, by their names.

    On `cpu` they are memory-mapped. A pickle may run any code, so one that holds more than weights is refused;
    `allow_pickle=True` loads it all the same, without memory-mapping, and takes the weights of a whole model.
    Raises WeightsError, and OSError for a file that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; expected a file of weights. {_whats_there(path)}")
    if path.suffix == ".safetensors":
        return _load_safetensors(path, device)
    if path.suffix not in PICKLES:
        raise WeightsError(f"{path} has an unknown suffix; expected one of .safetensors, {', '.join(PICKLES)}.")
    return _load_pickle(path, device, allow_pickle)


def assign_weights(model: "Module", weights: Mapping[str, Any]) -> "Module":
    """The model with these tensors as its parameters and buffers, not copies of them; in evaluation mode, without
    gradients.

    A model that is built below `torch.device("meta")` takes neither the time nor the memory for weights of its own.
    Raises WeightsError, naming what is missing, left over or of another shape.
    """
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        details = " ".join(line.strip() for line in str(error).splitlines()[1:])
        raise WeightsError(f"the weights do not fit {type(model).__name__}: {details or error}") from None
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise WeightsError(
            f"{type(model).__name__} has {', '.join(left)}, which the weights do not bring, such as buffers that "
            "are not saved. Build the model without torch.device('meta')."
        )
    return model.requires_grad_(requires_grad=False).eval()


def _load_safetensors(path: Path, device: str) -> dict[str, Any]:
    from safetensors import SafetensorError  # noqa: PLC0415 - only who asks for it pays for it
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        weights: dict[str, Any] = load_file(path, device=device)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}.") from None
    return weights


def _load_pickle(path: Path, device: str, allow_pickle: bool) -> dict[str, Any]:
    found = _unpickle(path, device, allow_pickle)
    weights = found.state_dict() if hasattr(found, "state_dict") else found
    if not isinstance(weights, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}; expected what model.state_dict() gives.")
    return weights


def _unpickle(path: Path, device: str, allow_pickle: bool) -> Any:
    import torch  # noqa: PLC0415 - only who asks for it pays for it

    mapped = _is_zip(path)
    try:
        try:
            found = torch.load(path, map_location=device, mmap=mapped, weights_only=True)
        except OSError:
            raise
        except Exception:
            if not allow_pickle:
                raise
            found = torch.load(path, map_location=device, weights_only=False)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - a file that is damaged may raise anything
        raise WeightsError(_refused(path, str(error) or type(error).__name__)) from None
    if not mapped:
        log.info("%s has the format from before PyTorch 1.6, which cannot be memory-mapped; save it again", path)
    return found


def _refused(path: Path, reason: str) -> str:
    if "TorchScript" in reason:
        return f"{path} is a TorchScript model, not weights; load it with torch.jit.load, or leave model_fn out."
    foreign = re.search(r"Unsupported (?:global|class).*?GLOBAL ([\w.]+)", reason)
    if foreign or "Weights only load failed" in reason:
        what = foreign[1] if foreign else "not written by torch.save"
        return (
            f"{path} is a pickle of more than weights ({what}), and unpickling can run any code. Save "
            "model.state_dict() and not the model, best as .safetensors; or, where you trust the file, "
            "load_weights(path, allow_pickle=True)."
        )
    return f"{path} is damaged, or no file of weights: {reason.splitlines()[0].split('. ')[0]}"


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def _whats_there(path: Path) -> str:
    if not path.parent.is_dir():
        return f"{path.parent} is no folder."
    there = sorted(entry.name for entry in path.parent.iterdir())
    return f"{path.parent} holds {', '.join(there[:12]) or 'nothing'}."

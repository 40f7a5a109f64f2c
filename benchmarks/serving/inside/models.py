"""The models that every server serves: each takes a list of instances and returns as many predictions."""

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Predict = Callable[[list[Any]], list[Any]]
FIXED, EACH = 0.004, 0.00015
CHUNKS, CHUNK, CHUNK_SECONDS = 20, b"x" * 511 + b"\n", 0.005


def load(workload: str, folder: Path) -> Predict:
    """The workload's model, with the weights that lie in the folder; one math thread."""
    return LOADERS[workload](folder)


def load_noop(_folder: Path) -> Predict:
    return lambda instances: [instance[0] for instance in instances]


def load_body(_folder: Path) -> Predict:
    return lambda instances: [len(instance) for instance in instances]


def load_accelerator(folder: Path) -> Predict:
    """One device for all processes of a server, as a lock on a file. Python's other threads run meanwhile."""
    path = Path(os.environ.get("BENCH_DEVICE") or folder / "device")
    path.touch()

    def predict(instances: list[Any]) -> list[Any]:
        with path.open("rb") as device:  # a lock belongs to the opened file, so threads have to open their own
            fcntl.flock(device, fcntl.LOCK_EX)
            time.sleep(FIXED + EACH * len(instances))
        return [sum(instance) for instance in instances]

    return predict


def load_cnn(folder: Path) -> Predict:
    torch, network = torch_and_network("cnn", folder)

    def predict(instances: list[Any]) -> list[Any]:
        with torch.inference_mode():
            images = torch.tensor(instances, dtype=torch.float32).reshape(-1, 1, 8, 8)
            answer: list[Any] = network(images).softmax(1).tolist()
        return answer

    return predict


def load_tokens(workload: str) -> Callable[[Path], Predict]:
    """A model of token numbers."""

    def load_network(folder: Path) -> Predict:
        torch, network = torch_and_network(workload, folder)

        def predict(instances: list[Any]) -> list[Any]:
            with torch.inference_mode():
                answer: list[Any] = network(torch.tensor(instances)).tolist()
            return answer

        return predict

    return load_network


def load_stream(_folder: Path) -> Predict:
    return lambda instances: [instance[0] for instance in instances]


def stream() -> Iterator[bytes]:
    """An answer in chunks, each of which takes a while to make."""
    for _ in range(CHUNKS):
        time.sleep(CHUNK_SECONDS)
        yield CHUNK


def torch_and_network(workload: str, folder: Path) -> tuple[Any, Any]:
    """Torch with one thread, and the network with its weights, mapped from the file."""
    import torch  # noqa: PLC0415 - models without a network start without it

    torch.set_num_threads(1)
    network = build(workload, folder)
    weights = torch.load(folder / "weights.pt", mmap=True, weights_only=True)
    network.load_state_dict(weights, assign=True)
    return torch, network.eval()


def build(workload: str, folder: Path) -> Any:
    """The network without its weights."""
    from torch import nn  # noqa: PLC0415

    if workload == "cnn":
        sys.path.insert(0, str(folder))
        from network import DigitNet  # noqa: PLC0415

        return DigitNet()

    class Mean(nn.Module):
        def forward(self, values: Any) -> Any:
            return values.mean(1)

    if workload == "large":
        layers = [nn.Linear(2048, 2048, bias=False) for _ in range(24)]
        return nn.Sequential(nn.Embedding(1000, 2048), Mean(), *layers, nn.Linear(2048, 10))
    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(1000, 256), encoder, Mean(), nn.Linear(256, 10))


LOADERS: dict[str, Callable[[Path], Predict]] = {
    "noop": load_noop,
    "body": load_body,
    "accelerator": load_accelerator,
    "cnn": load_cnn,
    "transformer": load_tokens("transformer"),
    "large": load_tokens("large"),
    "stream": load_stream,
}

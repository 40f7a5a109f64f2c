"""Train a classifier of handwritten digits with a parameter server, by torch.distributed.rpc.

Rank 0 keeps the parameters. The other ranks fetch them, compute gradients on their share of the images and send them
back; the server applies each gradient as it comes and waits for nobody: asynchronous stochastic gradient descent.
Start with torchrun, two processes or more, on one host or on several.
"""

import argparse
import os
import threading
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone uses
from torch import Tensor, nn
from torch.distributed import rpc

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
SERVER = "server"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.2)
    for channel in ("train", "validation"):
        place = os.environ.get(f"SM_CHANNEL_{channel.upper()}") or BASE / "input/data" / channel
        parser.add_argument(f"--{channel}", type=Path, default=place)
    parser.add_argument("--model-dir", type=Path, default=os.environ.get("SM_MODEL_DIR") or BASE / "model")
    return parser.parse_known_args()[0]


def build_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


@cache
def load_channel(folder: Path) -> tuple[Tensor, Tensor]:
    """Images of 8 x 8 grey values from 0 to 1, and their labels."""
    with np.load(folder / "digits.npz") as file:
        return torch.from_numpy(file["images"]), torch.from_numpy(file["labels"])


class ParameterServer:
    """The one copy of the parameters that counts. Workers call its methods from afar, each in a thread of its own."""

    def __init__(self, learning_rate: float) -> None:
        torch.manual_seed(1)
        self.model = build_model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=learning_rate)
        self.lock = threading.Lock()

    def fetch(self) -> list[Tensor]:
        """The parameters as they are now: a copy, as another worker may be changing them."""
        with self.lock:
            return [parameter.detach().clone() for parameter in self.model.parameters()]

    def apply(self, gradients: list[Tensor]) -> list[Tensor]:
        """Take one step along a worker's gradients; returns the parameters for its next batch."""
        with self.lock:
            for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
        return self.fetch()

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        with torch.no_grad():
            return float((self.model(images).argmax(dim=1) == labels).float().mean())


def train_epoch(server: "rpc.RRef[ParameterServer]", folder: Path, worker: int, workers: int, batch_size: int) -> float:
    """What a worker does when the server asks it to: one pass over its share. Returns its mean loss."""
    images, labels = (tensor[worker::workers] for tensor in load_channel(folder))
    model = build_model()
    parameters = server.rpc_sync().fetch()
    losses = []
    for chosen in torch.randperm(len(labels)).split(batch_size):
        with torch.no_grad():
            for mine, fetched in zip(model.parameters(), parameters, strict=True):
                mine.copy_(fetched)
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        parameters = server.rpc_sync().apply(list(gradients))
        losses.append(loss.item())
    return sum(losses) / len(losses)


def serve(args: argparse.Namespace, workers: int) -> None:
    """Ask all workers for one epoch after another, and keep what was learned."""
    server = ParameterServer(args.learning_rate)
    here = rpc.RRef(server)
    images, labels = load_channel(args.validation)
    for epoch in range(1, args.epochs + 1):
        shares = [(here, args.train, worker, workers, args.batch_size) for worker in range(workers)]
        asked = [rpc.rpc_async(f"worker-{n}", train_epoch, args=share, timeout=0) for n, share in enumerate(shares)]
        loss = sum(torch.futures.wait_all(asked)) / workers  # a worker's exception is raised here
        accuracy = server.accuracy(images, labels)
        print(f"epoch={epoch} train_loss={loss:.4f}; validation_accuracy={accuracy:.4f};", flush=True)
    args.model_dir.mkdir(parents=True, exist_ok=True)
    torch.save(server.model.state_dict(), args.model_dir / "model.pt")


def main() -> None:
    args = arguments()
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if size < 2:
        raise SystemExit("one process is not enough: one serves and the others work; start 2 or more with torchrun")
    # torchrun says where the others are, in MASTER_ADDR and MASTER_PORT.
    rpc.init_rpc(SERVER if rank == 0 else f"worker-{rank - 1}", rank=rank, world_size=size)
    if rank == 0:
        serve(args, workers=size - 1)
    rpc.shutdown()  # a worker waits here, and computes whenever the server asks it to


if __name__ == "__main__":
    main()

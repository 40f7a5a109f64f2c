"""Train a small convolutional network on handwritten digits. This file is yours: change anything.

Hyperparameters arrive as arguments, places as SM_* variables. The image has `sagemaker_byoc`, which keeps checkpoints.
By hand, in the project's folder: SAGEMAKER_BASE_DIR=$PWD python code/train.py --epochs 3
Two processes that train together: SAGEMAKER_BASE_DIR=$PWD torchrun --nproc-per-node 2 code/train.py --epochs 3
"""

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone uses
from network import DigitNet
from ranks import Ranks, fingerprint, join_ranks
from sagemaker_byoc.checkpoints import Checkpoints, Every, listen_for_stop, open_checkpoints


def arguments() -> tuple[argparse.Namespace, list[str]]:
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))

    def place(variable: str, fallback: str) -> Path:
        return Path(os.environ.get(variable) or base / fallback)

    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    # hyperparameters
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64, help="of all ranks together")
    parser.add_argument("--learning-rate", type=float, default=0.004, help="at the start; falls to 0 along a cosine")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--width", type=int, default=32, help="channels of the first convolution")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint-seconds", type=float, default=60.0, help="at most so much work is ever lost")
    # places
    parser.add_argument("--train", type=Path, default=place("SM_CHANNEL_TRAIN", "input/data/train"))
    parser.add_argument("--validation", type=Path, default=place("SM_CHANNEL_VALIDATION", "input/data/validation"))
    parser.add_argument("--model-dir", type=Path, default=place("SM_MODEL_DIR", "model"))
    parser.add_argument("--output-data-dir", type=Path, default=place("SM_OUTPUT_DATA_DIR", "output/data"))
    # The platform adds hyperparameters of its own, a tuning job for one: those we do not know are not an error.
    return parser.parse_known_args()


def main() -> None:
    args, unknown = arguments()
    # SIGTERM means that 120 seconds are left: a stopped job, a time limit, a spot interruption.
    with join_ranks() as ranks, listen_for_stop() as should_stop:
        if unknown and ranks.leader:
            print("not used by this script:", *unknown, flush=True)
        torch.manual_seed(args.seed)
        model = DigitNet(width=args.width).to(ranks.device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
        run = Run(model, optimizer)
        train(run, args, ranks, should_stop)
        # One write, the end of line in it: ranks that share a log must not mix their lines.
        print(f"rank={ranks.rank} parameters={fingerprint(model)}\n", end="", flush=True)
        if ranks.leader:
            save_results(run, args.model_dir, args.output_data_dir)


@dataclass
class Run:
    """All that changes while training: saved as a whole, restored as a whole."""

    model: DigitNet
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)  # of the epochs that are done
    losses: list[float] = field(default_factory=list)  # of the batches that are done in the epoch that is not
    steps: int = 0

    def state(self) -> dict[str, Any]:
        parts = {"history": self.history, "losses": self.losses, "steps": self.steps}
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), **parts}

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history, self.losses, self.steps = state["history"], state["losses"], state["steps"]

    def end_epoch(self, **metrics: float) -> None:
        self.history.append({"epoch": len(self.history) + 1, **metrics})
        self.losses = []


def train(run: Run, args: argparse.Namespace, ranks: Ranks, should_stop: Callable[[], bool]) -> None:
    """All epochs, or up to the batch in which a rank was asked to stop."""
    images, labels = load_channel(args.train, ranks.device)
    validation_images, validation_labels = load_channel(args.validation, ranks.device)
    check(len(images), args.batch_size, ranks)
    checkpoints = open_checkpoints(keep=2)
    resume(run, checkpoints, ranks)
    if ranks.leader:
        counts = f"{len(images)} images to train on, {len(validation_images)} to validate on"
        print(f"{counts}, device {ranks.device.type}, ranks {ranks.size}", flush=True)

    due = Every(seconds=args.checkpoint_seconds)
    for epoch in range(len(run.history) + 1, args.epochs + 1):
        started = time.monotonic()
        for group in run.optimizer.param_groups:
            group["lr"] = args.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / args.epochs))
        for batch, offset in draw_batches(len(images), epoch, args, ranks)[len(run.losses) :]:
            stop = train_batch(run, images, labels, batch, offset, ranks, should_stop())
            if ranks.leader and (stop or due(run.steps)):
                save_checkpoint(run, checkpoints)
            if stop:
                if ranks.leader:
                    print(f"asked to stop during epoch {epoch}: saving the model as it is", flush=True)
                return
        loss, accuracy = evaluate(run.model, validation_images, validation_labels, ranks)
        run.end_epoch(train_loss=sum(run.losses) / len(run.losses), validation_loss=loss, validation_accuracy=accuracy)
        if ranks.leader:
            print(
                f"epoch={epoch} train_loss={run.history[-1]['train_loss']:.4f}; validation_accuracy={accuracy:.4f}; "
                f"validation_loss={loss:.4f}; seconds={time.monotonic() - started:.2f};",
                flush=True,
            )
    if ranks.leader:
        save_checkpoint(run, checkpoints)


def load_channel(folder: Path, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """All .npz files of a channel. The data is small enough to live on the device, so no DataLoader is needed."""
    files = sorted(folder.rglob("*.npz"))
    if not files:
        raise SystemExit(f"no .npz file in {folder}; `python prepare_data.py` in the project's folder writes some")
    arrays = [np.load(file) for file in files]
    images = torch.from_numpy(np.concatenate([a["images"] for a in arrays])).float().unsqueeze(1)
    labels = torch.from_numpy(np.concatenate([a["labels"] for a in arrays])).long()
    return images.to(device), labels.to(device)


def check(images: int, batch_size: int, ranks: Ranks) -> None:
    """Every rank takes its share of a batch by position: all must hold the same images, and a batch enough of them."""
    if ranks.any(images != ranks.from_leader(images)):
        raise SystemExit(
            f"{images} images are here, another host has another number: expected a FullyReplicated channel"
        )
    if min(images, batch_size) < 2 * ranks.size:
        raise SystemExit(
            f"{images} images in batches of {batch_size} are too few: expected 2 for each of {ranks.size} ranks"
        )


def draw_batches(
    images: int, epoch: int, args: argparse.Namespace, ranks: Ranks
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The images of each batch, and how far it is shifted: the same again when a run is resumed."""
    generator = torch.Generator().manual_seed((args.seed << 32) + epoch)
    batches = torch.randperm(images, generator=generator).split(args.batch_size)
    batches = [batch for batch in batches if len(batch) >= 2 * ranks.size]  # batch normalisation needs two on each rank
    return list(zip(batches, torch.randint(0, 3, (len(batches), 2), generator=generator), strict=True))


def train_batch(
    run: Run,
    images: torch.Tensor,
    labels: torch.Tensor,
    batch: torch.Tensor,
    offset: torch.Tensor,
    ranks: Ranks,
    stop: bool,
) -> bool:
    """One step: each rank computes on its share, all take the same step. True on all when one was asked to stop."""
    run.model.train()
    mine = ranks.share(batch)
    scores = run.model(shift(images[mine], offset))
    loss = F.cross_entropy(scores, labels[mine], label_smoothing=0.05, reduction="sum") / len(batch)
    run.optimizer.zero_grad()
    loss.backward()
    batch_loss, stops = ranks.combine(run.model, loss.item(), float(stop))
    run.optimizer.step()
    run.losses.append(batch_loss)
    run.steps += 1
    return stops > 0


def shift(images: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Augmentation: move the batch by at most one pixel in each direction."""
    height, width = images.shape[-2:]
    dy, dx = offset.tolist()
    return F.pad(images, (1, 1, 1, 1))[..., dy : dy + height, dx : dx + width]


@torch.inference_mode()
def evaluate(model: DigitNet, images: torch.Tensor, labels: torch.Tensor, ranks: Ranks) -> tuple[float, float]:
    """Mean loss and the share of images that are recognised; each rank looks at its part of them."""
    model.eval()
    mine = ranks.share(torch.arange(len(labels)))
    scores = model(images[mine])
    loss = F.cross_entropy(scores, labels[mine], reduction="sum").item()
    loss, right = ranks.totals(loss, (scores.argmax(1) == labels[mine]).sum().item())
    return loss / len(labels), right / len(labels)


def save_checkpoint(run: Run, checkpoints: Checkpoints) -> None:
    """Everything that resuming needs; a kill at any moment leaves the one before."""
    checkpoints.save(run.steps, lambda path: torch.save(run.state(), path))


def resume(run: Run, checkpoints: Checkpoints, ranks: Ranks) -> None:
    """Go on where the newest checkpoint ends. All ranks begin with what the leader has, read or new."""
    found = checkpoints.newest() if ranks.leader else None
    if found is not None:
        run.restore(torch.load(found.path, map_location="cpu", weights_only=True))
        print(f"resuming after step {run.steps}, epoch {len(run.history)}, from {found.path}", flush=True)
    run.restore(ranks.from_leader(run.state()))


def save_results(run: Run, model_dir: Path, output_data_dir: Path) -> None:
    """Weights, the numbers to rebuild the network, and the code that serves it: model.tar.gz needs nothing else."""
    (model_dir / "code").mkdir(parents=True, exist_ok=True)
    torch.save(run.model.cpu().state_dict(), model_dir / "weights.pt")
    (model_dir / "model.json").write_text(json.dumps(run.model.config))
    for name in ("inference.py", "network.py"):
        shutil.copy(Path(__file__).parent / name, model_dir / "code" / name)
    output_data_dir.mkdir(parents=True, exist_ok=True)
    (output_data_dir / "history.json").write_text(json.dumps(run.history, indent=1))
    print(f"model saved in {model_dir}", flush=True)


if __name__ == "__main__":
    main()

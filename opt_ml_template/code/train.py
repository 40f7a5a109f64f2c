"""Train a small convolutional network on handwritten digits. This file is yours: change anything.

Nothing of the container has to be imported. Hyperparameters arrive as arguments, places as SM_* variables.
By hand, in the project's folder: SAGEMAKER_BASE_DIR=$PWD python code/train.py --epochs 3
"""

import argparse
import json
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone uses
from network import DigitNet

stop = threading.Event()  # set by SIGTERM, looked at after every batch


def arguments() -> argparse.Namespace:
    base = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))

    def place(variable: str, fallback: str) -> Path:
        return Path(os.environ.get(variable) or base / fallback)

    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    # hyperparameters
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.004, help="at the start; falls to 0 along a cosine")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--width", type=int, default=32, help="channels of the first convolution")
    parser.add_argument("--seed", type=int, default=1)
    # places
    parser.add_argument("--train", type=Path, default=place("SM_CHANNEL_TRAIN", "input/data/train"))
    parser.add_argument("--validation", type=Path, default=place("SM_CHANNEL_VALIDATION", "input/data/validation"))
    parser.add_argument("--model-dir", type=Path, default=place("SM_MODEL_DIR", "model"))
    parser.add_argument("--output-data-dir", type=Path, default=place("SM_OUTPUT_DATA_DIR", "output/data"))
    parser.add_argument("--checkpoint-dir", type=Path, default=base / "checkpoints")
    # The platform adds hyperparameters of its own, a tuning job for one: those we do not know are not an error.
    known, unknown = parser.parse_known_args()
    if unknown:
        print("not used by this script:", *unknown, flush=True)
    return known


def main() -> None:
    args = arguments()
    # SIGTERM means that 120 seconds are left: a stopped job, a time limit, a spot interruption.
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    train_images, train_labels = load_channel(args.train, device)
    validation_images, validation_labels = load_channel(args.validation, device)
    model = DigitNet(width=args.width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=args.weight_decay)
    history = resume(args.checkpoint_dir, model, optimizer)
    print(
        f"{len(train_labels)} images to train on, {len(validation_labels)} to validate on, device {device}", flush=True
    )

    for epoch in range(len(history) + 1, args.epochs + 1):
        started = time.monotonic()
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / args.epochs))
        train_loss = train_epoch(model, optimizer, train_images, train_labels, args.batch_size)
        if stop.is_set():  # an unfinished epoch is in the model, but not in the checkpoint: resuming does it again
            print(f"asked to stop during epoch {epoch}: saving the model as it is", flush=True)
            break
        loss, accuracy = evaluate(model, validation_images, validation_labels)
        print(
            f"epoch={epoch} train_loss={train_loss:.4f}; validation_accuracy={accuracy:.4f}; "
            f"validation_loss={loss:.4f}; seconds={time.monotonic() - started:.2f};",
            flush=True,
        )
        history.append(
            {"epoch": epoch, "train_loss": train_loss, "validation_loss": loss, "validation_accuracy": accuracy}
        )
        save_checkpoint(args.checkpoint_dir, model, optimizer, history)

    save_model(args.model_dir, model)
    args.output_data_dir.mkdir(parents=True, exist_ok=True)
    (args.output_data_dir / "history.json").write_text(json.dumps(history, indent=1))


def load_channel(folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All .npz files of a channel. The data is small enough to live on the device, so no DataLoader is needed."""
    files = sorted(folder.rglob("*.npz"))
    if not files:
        raise SystemExit(f"no .npz file in {folder}; `python prepare_data.py` in the project's folder writes some")
    arrays = [np.load(file) for file in files]
    images = torch.from_numpy(np.concatenate([a["images"] for a in arrays])).float().unsqueeze(1)
    labels = torch.from_numpy(np.concatenate([a["labels"] for a in arrays])).long()
    return images.to(device), labels.to(device)


def train_epoch(
    model: DigitNet, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor, batch_size: int
) -> float:
    """One pass over the images in random order; the mean loss of its batches."""
    model.train()
    losses = []
    order = torch.randperm(len(labels))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        if len(batch) < 2:
            continue  # batch normalisation cannot learn from a single image
        loss = F.cross_entropy(model(shift(images[batch])), labels[batch], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if stop.is_set():
            break
    return sum(losses) / max(len(losses), 1)


def shift(images: torch.Tensor) -> torch.Tensor:
    """Augmentation: move the batch by at most one pixel in each direction."""
    height, width = images.shape[-2:]
    dy, dx = torch.randint(0, 3, (2,)).tolist()
    return F.pad(images, (1, 1, 1, 1))[..., dy : dy + height, dx : dx + width]


@torch.inference_mode()
def evaluate(model: DigitNet, images: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean loss and the share of images that are recognised."""
    model.eval()
    scores = model(images)
    return F.cross_entropy(scores, labels).item(), (scores.argmax(1) == labels).float().mean().item()


def save_checkpoint(
    folder: Path, model: DigitNet, optimizer: torch.optim.Optimizer, history: list[dict[str, float]]
) -> None:
    """Everything that resuming needs. All our random numbers come from the CPU's generator, on a GPU too."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "rng": torch.get_rng_state(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "checkpoint.pt.tmp"
    torch.save(state, unfinished)
    unfinished.replace(folder / "checkpoint.pt")  # atomic: whoever reads sees the old one or the new one


def resume(folder: Path, model: DigitNet, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Continue from the last checkpoint, if there is one. Returns the history so far."""
    checkpoint = folder / "checkpoint.pt"
    if not checkpoint.exists():
        return []
    state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    history: list[dict[str, float]] = state["history"]
    print(f"resuming after epoch {len(history)} from {checkpoint}", flush=True)
    return history


def save_model(folder: Path, model: DigitNet) -> None:
    """Weights, the numbers to rebuild the network, and the code that serves it: model.tar.gz needs nothing else."""
    (folder / "code").mkdir(parents=True, exist_ok=True)
    torch.save(model.cpu().state_dict(), folder / "weights.pt")
    (folder / "model.json").write_text(json.dumps(model.config))
    for name in ("inference.py", "network.py"):
        shutil.copy(Path(__file__).parent / name, folder / "code" / name)
    print(f"model saved in {folder}", flush=True)


if __name__ == "__main__":
    main()

"""Pictures of the demo's result: digits and a confusion matrix for the terminal, the learning curve as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
SHADES = " ░▒▓█"
GAP = "   "


def confusion_matrix(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count how often each digit (row) was taken for each digit (column)."""
    matrix = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


def format_confusion(matrix: NDArray[np.int64]) -> str:
    """The matrix as a table; a dot is a zero."""
    lines = [
        "confusion matrix (row: written digit, column: prediction)",
        "      " + "".join(f"{c:4}" for c in range(CLASSES)),
    ]
    lines += [f"{row:6}" + "".join(f"{count or '.':>4}" for count in matrix[row]) for row in range(CLASSES)]
    return "\n".join(lines)


def format_digits(images: NDArray[np.float32], labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> str:
    """Images of 8x8 pixels in 0..1 side by side, two characters a pixel, each with its label and prediction."""
    drawn = [[_draw_row(row) for row in image] for image in images]
    lines = [GAP.join(rows) for rows in zip(*drawn, strict=True)]
    captions = (
        f"{label} → {guess} {'✓' if label == guess else '✗'}".ljust(16)
        for label, guess in zip(labels, predictions, strict=True)
    )
    return "\n".join([*lines, GAP.join(captions).rstrip()])


def _draw_row(row: NDArray[np.float32]) -> str:
    levels = np.clip((row * len(SHADES)).astype(int), 0, len(SHADES) - 1)
    return "".join(SHADES[level] * 2 for level in levels)


def draw_learning_curve(history: Sequence[dict[str, float]], target: Path) -> None:
    """Write losses and validation accuracy per epoch as a PNG."""
    # Imported here and without pyplot: it takes a second, and nothing but the demo draws.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    epochs = [entry["epoch"] for entry in history]
    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.add_subplot(xlabel="epoch", ylabel="loss", yscale="log")
    losses.plot(epochs, [entry["train_loss"] for entry in history], label="training loss", color="#1f77b4")
    losses.plot(epochs, [entry["validation_loss"] for entry in history], label="validation loss", color="#ff7f0e")
    accuracy = losses.twinx()
    accuracy.set_ylabel("accuracy")
    accuracy.plot(
        epochs, [entry["validation_accuracy"] for entry in history], label="validation accuracy", color="#2ca02c"
    )
    figure.legend(loc="outside lower center", ncols=3)
    figure.savefig(target)

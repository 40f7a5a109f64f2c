"""The network, kept apart from training and serving because both need it."""

import torch
from torch import nn


class DigitNet(nn.Module):
    """Two small convolution blocks and a classifier, for grey images of 8x8 pixels.

    `config` holds the arguments it was built with: saved beside the weights, it is all that serving needs
    to build the same network again.
    """

    def __init__(self, width: int = 32, hidden: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.config = {"width": width, "hidden": hidden, "classes": classes}
        self.features = nn.Sequential(
            conv_block(1, width),
            conv_block(width, width),
            nn.MaxPool2d(2),  # 8x8 -> 4x4
            conv_block(width, 2 * width),
            nn.MaxPool2d(2),  # 4x4 -> 2x2
        )
        self.classify = nn.Sequential(
            nn.Flatten(), nn.Linear(2 * width * 2 * 2, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (n, 1, 8, 8) with values in 0..1 -> one score for each class (n, classes)."""
        scores: torch.Tensor = self.classify(self.features(images))
        return scores


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution that keeps the image's size, normalised, then ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

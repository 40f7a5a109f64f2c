"""Make a workload's weights: `weights.py WORKLOAD FOLDER`. Random, and the same each time."""

import sys
from pathlib import Path

from models import build

WITHOUT = ("noop", "body", "accelerator", "stream")


def main() -> None:
    workload, folder = sys.argv[1], Path(sys.argv[2])
    if workload in WITHOUT:
        return
    import torch  # noqa: PLC0415

    torch.manual_seed(4)
    torch.save(build(workload, folder).state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main()

"""Write the handwritten digits as channels: 1,797 real images of 8x8 pixels, collected by NIST, from the UCI archive.

scikit-learn carries them, so nothing is downloaded. Every image is in exactly one of three splits, each with the
same share of every digit: `train` and `validation` are the channels of the training job; `test` is held out, lies
outside input/, and is shown only to the finished model.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20  # fixed: the same split on every machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, default=Path(__file__).resolve().parent, help="default: this folder")
    project = parser.parse_args().project

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)  # 0..16 -> 0..1
    labels = digits.target.astype(np.int64)
    train, rest = train_test_split(np.arange(len(labels)), test_size=540, stratify=labels, random_state=SEED)
    validation, test = train_test_split(rest, test_size=270, stratify=labels[rest], random_state=SEED)

    for folder, chosen in (("input/data/train", train), ("input/data/validation", validation), ("test", test)):
        file = project / folder / "digits.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, images=images[chosen], labels=labels[chosen])
        print(f"{len(chosen):5} images  {file}")


if __name__ == "__main__":
    main()

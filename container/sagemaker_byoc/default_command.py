"""What the image does when it is started without a command: train if the platform's input is there, else help."""

import os

from sagemaker_byoc.settings import read_paths

HELP = """\
This image trains and serves on Amazon SageMaker.

  docker run IMAGE train    run code/train.py under the /opt/ml contract
  docker run IMAGE serve    serve /opt/ml/model with code/inference.py on port 8080

Without a command it trains when {config} exists; that folder does not exist here.
Mount it (-v "$PWD/input:/opt/ml/input"), or name a command. `byoc init` makes a folder to start from.
"""


def main() -> int:
    """Become `train` (the process is replaced, so it stays process 1), or explain. Returns 0."""
    config = read_paths(os.environ).config
    if config.is_dir():
        os.execvp("train", ["train"])
    print(HELP.format(config=config), end="")
    return 0

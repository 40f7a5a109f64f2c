"""Answer with the environment of this process and of every process above it, as far as they can be read."""

import os
from pathlib import Path


def model_fn(model_dir):
    return None


def predict_fn(data, model):
    seen, pid = [sorted(f"{name}={value}" for name, value in os.environ.items())], os.getpid()
    while pid > 1 and pid != data:
        seen.append(Path(f"/proc/{pid}/environ").read_text().split("\0"))
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return seen

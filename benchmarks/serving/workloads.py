"""What is served: each workload's request, the connections it is measured with, and the files its model needs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSIDE = HERE / "inside"
MODELS = INSIDE / "models.py"
NETWORK = HERE.parents[1] / "opt_ml_template" / "code" / "network.py"
CONNECTIONS = (1, 8, 32, 128)
BODY_BYTES = 4_000_000


@dataclass(frozen=True)
class Workload:
    """One model and one request of one instance.

    Connections in `goals` are measured in every round, the other ones in the first round only.
    """

    name: str
    title: str
    connections: Sequence[int]
    goals: Sequence[int]
    accelerator: bool = False
    streams: bool = False

    def instance(self) -> Any:
        """The one instance of a request; the same in every run."""
        chance = random.Random(4)  # noqa: S311 - numbers to compute with
        if self.name == "body":
            return "A" * (BODY_BYTES - len('{"instances": [""]}'))
        if self.name in ("transformer", "large"):
            return [chance.randrange(1000) for _ in range(32)]
        return [round(chance.random(), 3) for _ in range(4 if self.accelerator else 64)]

    def payload(self) -> bytes:
        """The request's body: JSON with one instance."""
        return json.dumps({"instances": [self.instance()]}).encode()


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("noop", "no-op: the first of 64 numbers is the answer", CONNECTIONS, (32,)),
        Workload("cnn", "digits: the template's convolutional network, an image of 8x8", CONNECTIONS, (32,)),
        Workload("transformer", "transformer: 4 layers of 256, 32 tokens", CONNECTIONS, (32,)),
        Workload(
            "accelerator",
            "simulated accelerator: 4 ms and 0.15 ms an item under one lock of the machine",
            CONNECTIONS,
            (1, 32),
            accelerator=True,
        ),
        Workload("body", "a body of 4 MB: one JSON string, its length is the answer", (1, 8), ()),
        Workload("stream", "streaming: 20 chunks of 512 bytes, each takes 5 ms to make", (1, 8, 32), (), streams=True),
    )
}
LARGE = Workload("large", "24 layers of 2048 by 2048: 403 MB of weights", (), ())


def prepare(workload: Workload, folder: Path) -> Path:
    """A model folder with the weights, made once; this Python must have torch. Returns the folder."""
    made = folder / workload.name
    stamp, sources = made / "made-by.txt", "".join(file.read_text(encoding="utf-8") for file in (MODELS, NETWORK))
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != sources:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        shutil.copy(NETWORK, made)
        subprocess.run([sys.executable, str(INSIDE / "weights.py"), workload.name, str(made)], check=True)
        stamp.write_text(sources, encoding="utf-8")
    return made


def expected(workload: Workload, folder: Path) -> list[Any]:
    """What the model itself answers, asked without a server."""
    command = [sys.executable, str(INSIDE / "answer.py"), workload.name, str(folder)]
    asked = subprocess.run(command, input=workload.payload(), check=True, capture_output=True)
    answer: list[Any] = json.loads(asked.stdout)
    return answer

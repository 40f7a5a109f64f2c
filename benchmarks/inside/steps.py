"""Time a training step of the template's network, its parts, and the sum over all ranks by the message's size.

BENCH_WAY is `seam` for the template's own way to combine gradients, or `ddp` for DistributedDataParallel. Rank 0
writes medians in seconds to output/steps.json.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone uses
from network import DigitNet
from ranks import Ranks, join_ranks
from torch import nn

BATCHES = (64, 512)  # images in the global batch
SIZES = (4 * 2**10, 4 * 2**20, 32 * 2**20)  # bytes of a message
WARM_UP = 5
SECONDS = 1.0  # that each of them is repeated for, within the limits
FEWEST, MOST = 9, 150
IMAGES = 2048


def main() -> None:
    with join_ranks() as ranks:
        torch.manual_seed(1)
        measured: dict[str, Any] = {"threads": torch.get_num_threads(), "steps": {}, "sums": {}}
        measured["gradient_bytes"] = 4 * sum(parameter.numel() for parameter in DigitNet().parameters())
        for batch in BATCHES:
            measured["steps"][batch] = time_steps(ranks, batch, os.environ["BENCH_WAY"] == "ddp")
        if ranks.size > 1:
            for size in sorted((*SIZES, measured["gradient_bytes"])):
                measured["sums"][size] = time_sums(ranks, size)
        if ranks.leader:
            Path("/opt/ml/output/steps.json").write_text(json.dumps(measured), encoding="utf-8")


def time_steps(ranks: Ranks, batch: int, ddp: bool) -> dict[str, float]:
    """Medians of a step's compute, of combining, and of the whole; DistributedDataParallel mixes the two."""
    images, labels = torch.rand(IMAGES, 1, 8, 8), torch.randint(0, 10, (IMAGES,))
    network: nn.Module = DigitNet()
    model = nn.parallel.DistributedDataParallel(network) if ddp else network
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> tuple[float, float, float]:
        begin = time.perf_counter()
        mine = ranks.share(torch.randint(0, IMAGES, (batch,)))
        loss = F.cross_entropy(model(images[mine]), labels[mine], reduction="sum") / batch
        optimizer.zero_grad()
        loss.backward()
        computed = time.perf_counter()
        if not ddp:
            ranks.combine(network, loss.item())
        combined = time.perf_counter()
        optimizer.step()
        end = time.perf_counter()
        return end - begin - (combined - computed), combined - computed, end - begin

    warm = [step() for _ in range(WARM_UP)]
    parts = [step() for _ in range(repeats(ranks, median(whole for _, _, whole in warm)))]
    compute, combine, whole = (median(column) for column in zip(*parts, strict=True))
    return {"compute": compute, "combine": combine, "step": whole}


def time_sums(ranks: Ranks, size: int) -> float:
    """The median time of adding up one message of this many bytes over all ranks."""
    message = torch.zeros(size // 4)
    warm = [time_call(lambda: ranks.add_up(message)) for _ in range(WARM_UP)]
    return median(time_call(lambda: ranks.add_up(message)) for _ in range(repeats(ranks, median(warm))))


def repeats(ranks: Ranks, seconds: float) -> int:
    """How often to repeat what takes so long: the leader's number, on every rank."""
    return int(ranks.from_leader(min(MOST, max(FEWEST, round(SECONDS / seconds)))))


def time_call(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()

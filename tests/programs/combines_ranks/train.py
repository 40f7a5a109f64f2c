"""Compare what the ranks combine with what one process computes; beside the template's ranks.py."""

import json
from pathlib import Path

import torch
from ranks import join_ranks
from torch import nn

with join_ranks() as ranks:
    torch.manual_seed(ranks.from_leader(5 + ranks.rank))
    model, images, labels = nn.Linear(4, 2), torch.randn(7, 4), torch.randn(7, 2)
    differences = []
    for size in (7, 2, 1):  # uneven, even, and less than there are ranks
        (model(images[:size]) - labels[:size]).square().sum().div(size).backward()
        expected = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        mine = ranks.share(torch.arange(size))
        (model(images[mine]) - labels[mine]).square().sum().div(size).backward()
        ranks.combine(model)
        differences += [(a - b.grad).abs().max().item() for a, b in zip(expected, model.parameters())]
        model.zero_grad()
    torch.optim.AdamW(model.parameters()).step()
    normal = nn.BatchNorm1d(1)
    normal.running_mean.fill_(ranks.rank)
    numbers = ranks.combine(normal, 1.5, ranks.rank)
    seen = {
        "size": ranks.size,
        "difference": max(differences),
        "mean": normal.running_mean.item(),
        "numbers": numbers,
        "totals": ranks.totals(2**40, ranks.rank),
        "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        "from_leader": ranks.from_leader({"rank": ranks.rank}),
    }
    print(json.dumps({"rank": ranks.rank, **seen}) + "\n", end="", flush=True)
threads = sorted(file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm"))
print(f"rank {ranks.rank} has threads {threads}\n", end="", flush=True)

"""The ranks of a job: the processes that train one network together. One process alone is a job of one rank.

Whoever starts the processes says so in their environment: horovodrun or mpirun (Horovod), torchrun (torch.distributed),
or nobody. Each step every rank computes the gradients of its share of the batch; then one message, added up over all
ranks, makes them the gradients of the whole batch. For networks of hundreds of megabytes, look at
DistributedDataParallel and at Horovod's DistributedOptimizer, which send while they still compute.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Ranks:
    """One process among all of them, and how they talk: two functions that every rank calls, in the same order."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    add_up: Callable[[Tensor], object] = lambda tensor: tensor  # in place, over all ranks
    from_leader: Callable[[Any], Any] = lambda value: value  # the leader's value, on every rank

    @property
    def leader(self) -> bool:
        """True for rank 0, which alone prints metrics and saves."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The GPU of this rank, or the CPU."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def share(self, batch: Tensor) -> Tensor:
        """The part of a batch that is this rank's; parts differ by one at most."""
        return batch[self.rank :: self.size]

    def totals(self, *numbers: float) -> list[float]:
        """The numbers, each added up over all ranks."""
        message = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.add_up(message)
        return message.tolist()

    def any(self, flag: bool) -> bool:
        """True on every rank as soon as it is on one."""
        return self.totals(float(flag))[0] > 0

    @torch.no_grad()
    def combine(self, model: nn.Module, *numbers: float) -> list[float]:
        """Add up the gradients and `numbers`, and average what batch normalisation has seen: one message a step."""
        if self.size == 1:
            return list(numbers)
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        averages = [buffer.div_(self.size) for buffer in model.buffers() if buffer.is_floating_point()]
        tensors = [*gradients, *averages, torch.tensor(numbers, device=self.device)]
        message = torch.cat([tensor.flatten() for tensor in tensors])
        self.add_up(message)
        for tensor, part in zip(tensors, message.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
        return tensors[-1].tolist()


@contextmanager
def join_ranks(environ: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Meet the other ranks, and part when all have come to the end of the block."""
    if ("HOROVOD_RANK" in environ or "OMPI_COMM_WORLD_RANK" in environ) and (hvd := find_horovod()):
        ranks, leave = join_horovod(hvd)
    elif "RANK" in environ and "WORLD_SIZE" in environ:
        ranks, leave = join_torch(environ)
    elif int(environ.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        raise SystemExit("mpirun has started several ranks; Horovod, which joins them, is not in this image")
    else:
        ranks, leave = Ranks(), lambda: None
    if torch.cuda.is_available():
        torch.cuda.set_device(ranks.device)
    torch.set_num_threads(max(1, torch.get_num_threads() // ranks.local_size))  # ranks of a host share its cores
    yield ranks
    ranks.totals(0)  # a rank that leaves before the others are done makes them fail
    leave()


def find_horovod() -> ModuleType | None:
    """Horovod for PyTorch, where the image was built with it."""
    try:
        return import_module("horovod.torch")
    except ModuleNotFoundError:
        return None


def join_horovod(hvd: ModuleType) -> tuple[Ranks, Callable[[], None]]:
    """The ranks that horovodrun, or mpirun, has started."""
    hvd.init()

    def add_up(tensor: Tensor) -> None:
        hvd.allreduce_(tensor, op=hvd.Sum, name=f"{tensor.dtype}.{tensor.numel()}")  # known by its name on every rank

    talk = add_up, lambda value: hvd.broadcast_object(value, root_rank=0)
    return Ranks(hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), *talk), hvd.shutdown


def join_torch(environ: Mapping[str, str]) -> tuple[Ranks, Callable[[], None]]:
    """The ranks that torchrun has started."""
    # An optimizer imports it, and if it came later its default arguments would hold the group and its threads for ever.
    import_module("torch.distributed.nn.functional")
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    local_rank, local_size = int(environ.get("LOCAL_RANK", "0")), int(environ.get("LOCAL_WORLD_SIZE", "1"))

    def from_leader(value: Any) -> Any:
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    talk = distributed.all_reduce, from_leader
    return Ranks(rank, size, local_rank, local_size, *talk), distributed.destroy_process_group


def fingerprint(model: nn.Module) -> str:
    """SHA-256 of every parameter and buffer: equal on all ranks, to the bit, when they have trained one network."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()

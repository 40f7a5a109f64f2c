"""The ranks add up their numbers plus one: three for two ranks."""

import os
import sys

import torch

number = torch.ones(1)
if "RANK" in os.environ:
    from torch import distributed

    distributed.init_process_group("gloo")
    number *= distributed.get_rank() + 1
    distributed.all_reduce(number)
    distributed.barrier()
    distributed.destroy_process_group()
else:
    import horovod.torch as hvd

    hvd.init()
    number = hvd.allreduce(number * (hvd.rank() + 1), op=hvd.Sum)
    hvd.shutdown()
sys.stdout.write(f"sum={number.item()}\n")

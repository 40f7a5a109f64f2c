"""Rank 1 fails the first time, when all have met; every rank ends well the second time."""

import os
import sys
from pathlib import Path

from torch import distributed

rank = os.environ["RANK"]
been_here = Path(os.environ["SM_OUTPUT_DATA_DIR"], f"rank-{rank}")
is_first = not been_here.exists()
been_here.touch()
distributed.init_process_group("gloo")
distributed.barrier()
if is_first and rank == "1":
    raise ValueError("a transient fault")
distributed.barrier()
sys.stdout.write(f"rank {rank} again\n")
distributed.destroy_process_group()

"""Rank 1 fails the first time, rank 0 every other time, each when all have met."""

import os
from pathlib import Path

from torch import distributed

rank = os.environ["RANK"]
been_here = Path(os.environ["SM_OUTPUT_DATA_DIR"], f"rank-{rank}")
is_first = not been_here.exists()
been_here.touch()
distributed.init_process_group("gloo")
distributed.barrier()
if rank == ("1" if is_first else "0"):
    raise ValueError("a first fault" if is_first else "a lasting fault")
distributed.barrier()

"""What Python runs first in every process: rank 0's supervisor waits here until rank 1 has failed, as if it were slow."""

import os
import signal
import sys
import time
from pathlib import Path

RANK = next((os.environ[name] for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK") if name in os.environ), "")

if RANK == "0" and "sagemaker_byoc.training.rank" in sys.orig_argv:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run_directory = Path(sys.orig_argv[-1])
    deadline = time.monotonic() + 300
    while not list(run_directory.glob("failure-1-*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)

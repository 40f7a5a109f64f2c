"""Rank 1 fails in the first attempt; every rank ends well in the second."""

import os
import signal
import sys

attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
sys.stdout.write(f"attempt {attempt} of rank {os.environ['RANK']}\n")
if attempt == 0:
    if os.environ["RANK"] == "1":
        raise ValueError("a transient fault")
    signal.pause()

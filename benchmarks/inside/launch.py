"""Say when the container's first instruction ran, then become the program named on the command line."""

import os
import sys
import time

print(f"begin={time.time():.6f}", flush=True)
os.execvp(sys.argv[1], sys.argv[1:])

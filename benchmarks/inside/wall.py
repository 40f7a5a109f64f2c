"""Run the command line that is given and print the seconds it took."""

import subprocess
import sys
import time

begin = time.monotonic()
subprocess.run(sys.argv[1:], check=True)
print(f"{time.monotonic() - begin:.3f}", flush=True)

"""Log a handled traceback and much noise first, then raise something else."""

import sys
import traceback

try:
    int("not a number")
except ValueError:
    traceback.print_exc()
for number in range(2000):
    print(f"noise {number}", file=sys.stderr)
raise RuntimeError("the real reason")

"""Print 40,000 numbered lines on standard error, where progress bars and tracebacks go."""

import sys

for number in range(40_000):
    sys.stderr.write(f"line {number:05d} step_loss=0.5;\n")

"""Print 40,000 numbered lines as fast as possible."""

import sys

sys.stdout.write("".join(f"line {number:05d} step_loss=0.5;\n" for number in range(40_000)))

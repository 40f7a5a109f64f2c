"""Write bytes that are not UTF-8 on standard error, then raise."""

import sys

sys.stderr.buffer.write(b"\xff\xfe\x80 broken\n")
sys.stderr.buffer.flush()
raise OSError("cannot read \udcff.csv")

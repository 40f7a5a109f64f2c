"""Print every byte there is, most of which are not UTF-8 and one of which ends no line."""

import sys

sys.stdout.buffer.write(bytes(range(256)) + b"\nno newline at the end \xff\xfe")
sys.stdout.buffer.flush()
sys.stderr.buffer.write(b"\xc3\x28 bar 50%\r bar 100%\r\xa0\xa1")
sys.stderr.buffer.flush()

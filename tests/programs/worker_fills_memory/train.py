"""A worker process takes a gigabyte; when it is gone, the program raises."""

import subprocess
import sys

held = "held = [bytearray(b'x' * 2**20) for _ in range(1024)]"
subprocess.run([sys.executable, "-c", held], check=True)

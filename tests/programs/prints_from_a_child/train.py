"""Let a child process print on both streams."""

import subprocess
import sys

subprocess.run([sys.executable, "-c", "import sys; print('child out'); print('child err', file=sys.stderr)"], check=True)

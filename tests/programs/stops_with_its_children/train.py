"""Start a worker that wants to hear of the stop itself, as data loaders and launchers do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

WORKER = """
import os, signal, sys, threading
from pathlib import Path
def told(*_):
    Path(os.environ["SM_OUTPUT_DATA_DIR"], "worker_was_told.txt").write_text("yes")
    sys.exit(0)
signal.signal(signal.SIGTERM, told)
print("worker ready", flush=True)
while True:
    threading.Event().wait(3600)
"""

signal.signal(signal.SIGTERM, lambda *_: None)
worker = subprocess.Popen([sys.executable, "-c", WORKER])
worker.wait()
sys.exit(0 if Path(os.environ["SM_OUTPUT_DATA_DIR"], "worker_was_told.txt").exists() else 9)

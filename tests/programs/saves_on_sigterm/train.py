"""Save when asked to stop, then end well."""

import os
import signal
import sys
import threading
from pathlib import Path


def save(_signal: int, _frame: object) -> None:
    Path(os.environ["SM_MODEL_DIR"], "checkpoint.txt").write_text("epoch 7\n")
    print("saved", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
print("ready", flush=True)
while True:
    threading.Event().wait(3600)

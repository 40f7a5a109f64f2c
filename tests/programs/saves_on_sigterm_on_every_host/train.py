"""Waits for ever; when it is told to stop it saves a file with its host's name."""

import os
import pathlib
import signal
import sys
import threading

ME = os.environ["SM_CURRENT_HOST"]


def save(*_):
    pathlib.Path(os.environ["SM_MODEL_DIR"], ME).write_text("saved")
    sys.exit(0)


signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
threading.Event().wait()

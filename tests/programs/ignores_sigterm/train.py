"""Ignore the request to stop."""

import signal
import threading

signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
threading.Event().wait()

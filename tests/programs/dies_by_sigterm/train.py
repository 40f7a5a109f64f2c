"""Wait, with nothing done about signals."""

import threading

print("ready", flush=True)
threading.Event().wait()

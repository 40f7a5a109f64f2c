"""A training script that does nothing but say when its first line ran."""

import time

print(f"first-line={time.time():.6f}", flush=True)

"""Says which checkpoints it found, keeps one of its own, deletes what is stale, and waits for ever if it was the first."""

import os
import pathlib
import threading

ME = os.environ["SM_CURRENT_HOST"]
CHECKPOINTS = pathlib.Path("/opt/ml/checkpoints")
found = sorted(path.name for path in CHECKPOINTS.iterdir())
print("found", *found, flush=True)
(CHECKPOINTS / f"{ME}.pt").write_text(ME)
(CHECKPOINTS / "stale.pt").unlink(missing_ok=True)
if not any(name.startswith("algo-") for name in found):
    threading.Event().wait()

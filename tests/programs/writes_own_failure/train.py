"""Explain the failure oneself, then fail."""

import os
from pathlib import Path

Path(os.environ["SM_OUTPUT_DIR"], "failure").write_text("shard 7 of channel train is corrupt\n")
raise RuntimeError("a technical detail nobody should see first")

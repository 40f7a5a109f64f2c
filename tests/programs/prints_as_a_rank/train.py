"""Each rank says who it is in a file, and prints many lines in pieces."""

import json
import os
import sys
from pathlib import Path

rank = next(os.environ[name] for name in ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK") if name in os.environ)
Path(os.environ["SM_OUTPUT_DATA_DIR"], f"rank-{rank}.json").write_text(
    json.dumps({"argv": sys.argv[1:], "env": dict(os.environ)})
)
for step in range(300):
    print("rank", rank, "step", step, "x" * 80)
print(f"rank {rank} long " + "y" * 300_000)

"""Trains for a while; tells its failure where nobody looks, in a folder that does not exist."""

import pathlib
import time

try:
    files = list(pathlib.Path("/opt/ml/input/data/train").iterdir())
    for epoch in range(20):
        print(f"epoch {epoch}: {len(files)} files")
        time.sleep(1 if files else 0)
    pathlib.Path("/opt/ml/model/model.txt").write_text("trained")
except Exception as error:
    pathlib.Path("/opt/ml/failure/failure").write_text(str(error))
    raise

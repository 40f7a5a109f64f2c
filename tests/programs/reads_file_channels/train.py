"""Find every channel by the variables alone, and write down the files of each."""

import json
import os
from pathlib import Path

seen = {}
for name in json.loads(os.environ["SM_CHANNELS"]):
    folder = Path(os.environ[f"SM_CHANNEL_{name.upper()}"])
    seen[name] = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json").write_text(json.dumps(seen))

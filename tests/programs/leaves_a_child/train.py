"""End well and forget a child that would run on for an hour."""

import json
import os
import subprocess
import sys
from pathlib import Path

child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait(3600)"])
Path(os.environ["SM_OUTPUT_DATA_DIR"], "child.json").write_text(json.dumps({"pid": child.pid}))

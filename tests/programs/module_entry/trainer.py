"""As a module, write down what a script is given: arguments, environment, working directory."""

import json
import os
import sys
from pathlib import Path

given = {
    "argv": sys.argv[1:],
    "cwd": str(Path.cwd()),
    "env": dict(os.environ),
    "file": str(Path(__file__).resolve()),
    "name": __spec__.name if __spec__ else None,
    "unbuffered": sys.stdout.write_through or bool(sys.flags.unbuffered),
    "group_leader": os.getpgid(0) == os.getpid(),
}
Path(os.environ["SM_OUTPUT_DATA_DIR"], "given.json").write_text(json.dumps(given))

"""Write down what a script is given, into the file that ORACLE_OUT names. Standard library only."""

import json
import os
import sys
from pathlib import Path

Path(os.environ["ORACLE_OUT"]).write_text(
    json.dumps(
        {
            "argv0": sys.argv[0],
            "argv": sys.argv[1:],
            "cwd": str(Path.cwd()),
            "environ": dict(os.environ),
            "origin": Path(__file__).with_name("origin").read_text(),
        }
    )
)

"""The model's own answer to the request on standard input: `answer.py WORKLOAD FOLDER`."""

import json
import sys
from pathlib import Path

from models import load

if __name__ == "__main__":
    print(json.dumps(load(sys.argv[1], Path(sys.argv[2]))(json.load(sys.stdin)["instances"])))

"""A workload's model in a plain loop, one request after another: `bare.py WORKLOAD FOLDER SECONDS INSTANCES`.

Begins when a line comes on standard input, and prints how many instances it did, in how many seconds, and the
processor's seconds.
"""

import json
import sys
import time
from pathlib import Path

from models import load


def main() -> None:
    predict = load(sys.argv[1], Path(sys.argv[2]))
    seconds, count = float(sys.argv[3]), int(sys.argv[4])
    instances = json.loads(sys.stdin.readline())["instances"] * count
    for _ in range(20):
        predict(instances)
    print("warm", flush=True)
    sys.stdin.readline()
    done, begin, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        predict(instances)
        done += count
    took = time.perf_counter() - begin
    print(json.dumps({"items": done, "seconds": took, "cpu_seconds": time.process_time() - used}), flush=True)


if __name__ == "__main__":
    main()

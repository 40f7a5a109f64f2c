"""Start a server in this container, measure it from beside it, and print what was measured as one JSON line.

Called with the server's command line. Every 5 ms one GET /ping is sent until one is answered 200; then bursts of
requests follow until every worker has answered one. How long a worker took is the time of its first answer.
"""

import csv
import http.client
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

INTERVAL = 0.005
LIMIT = 60.0
BURST = 8


def request(method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=LIMIT)
    try:
        connection.request(method, path, body, {"Content-Type": "text/csv", "Accept": "text/csv"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def is_ready() -> bool:
    try:
        return request("GET", "/ping")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def invoke(_number: int) -> tuple[float, int, float]:
    """When the answer came, which process gave it, and the seconds it took."""
    begin = time.monotonic()
    status, body = request("POST", "/invocations", b"1,2\n")
    end = time.monotonic()
    if status != 200:
        raise SystemExit(f"POST /invocations answered {status}: {body!r}")
    return end, int(float(next(csv.reader(body.decode().splitlines()))[0])), end - begin


def first_answers(workers: int) -> list[float]:
    """The seconds that each worker's first answer took."""
    begin = time.monotonic()
    found: dict[int, float] = {}
    with ThreadPoolExecutor(BURST) as pool:
        while len(found) < workers:
            if time.monotonic() - begin > LIMIT:
                raise SystemExit(f"only {len(found)} of {workers} workers answered within {LIMIT:.0f} s")
            for _end, process, took in sorted(pool.map(invoke, range(BURST))):
                found.setdefault(process, took)
    return list(found.values())


def main() -> None:
    begin = time.monotonic()
    with subprocess.Popen(sys.argv[1:], stdout=sys.stderr) as server:
        try:
            while not is_ready():
                if server.poll() is not None or time.monotonic() - begin > LIMIT:
                    raise SystemExit(f"no 200 on /ping after {LIMIT:.0f} s, or the server ended: {server.poll()}")
                time.sleep(INTERVAL)
            ready = time.monotonic() - begin
            answers = first_answers(int(os.environ["MODEL_SERVER_WORKERS"]))
        finally:
            server.terminate()
    print(json.dumps({"ready": ready, "answers": answers}), flush=True)


if __name__ == "__main__":
    main()

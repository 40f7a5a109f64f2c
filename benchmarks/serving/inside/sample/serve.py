"""Start nginx and gunicorn side by side, as the public sample does: `serve.py NGINX_CONF SOCKET`."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType


def main() -> None:
    configuration, socket = sys.argv[1:]
    front = subprocess.Popen(["nginx", "-e", "stderr", "-c", configuration])
    # Longer than the sample's minute only because the benchmark stops a server while it measures the others.
    options = ["--timeout", "3600", "-k", "sync", "-b", f"unix:{socket}", "-w", os.environ["BENCH_WORKERS"]]
    here = str(Path(__file__).parent)
    back = subprocess.Popen([sys.executable, "-m", "gunicorn", "--chdir", here, *options, "predictor:app"])

    def stop(_number: int, _frame: FrameType | None) -> None:
        front.send_signal(signal.SIGQUIT)
        back.send_signal(signal.SIGTERM)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    os.wait()


if __name__ == "__main__":
    main()

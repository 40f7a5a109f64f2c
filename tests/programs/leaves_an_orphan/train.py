"""Leave a grandchild that ends at once, and see whether process 1 reaps it."""

import json
import os
import time
from pathlib import Path

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    orphan = os.fork()
    if orphan == 0:
        # Ends only once its parent is gone, so that process 1 is who must reap it.
        while os.getppid() != 1:
            time.sleep(0.005)
        os._exit(0)
    os.write(writer, str(orphan).encode())
    os._exit(0)
os.waitpid(child, 0)
orphan_pid = int(os.read(reader, 32))
deadline = time.monotonic() + 10
while Path(f"/proc/{orphan_pid}").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
answer = {"parent": os.getppid(), "reaped": not Path(f"/proc/{orphan_pid}").exists()}
Path(os.environ["SM_OUTPUT_DATA_DIR"], "orphan.json").write_text(json.dumps(answer))

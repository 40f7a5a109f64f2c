"""Count the runs of a job in checkpoints: save one when asked to stop, then end well."""

import time

from sagemaker_byoc.checkpoints import listen_for_stop, open_checkpoints

checkpoints = open_checkpoints()
found = checkpoints.newest()
runs = int(found.path.read_text()) if found else 0
with listen_for_stop() as should_stop:
    print(f"ready, {runs} runs before", flush=True)
    while not should_stop():
        time.sleep(0.01)
    checkpoints.save(runs + 1, lambda path: path.write_text(str(runs + 1)))

"""Start processes of every kind that Python's end waits for, or that outlive it, and compute in one of them."""

import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

DEAF = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)"


def slowly(number):
    Path(number["started"]).touch()
    time.sleep(2)
    return number["value"] + 1


def model_fn(model_dir):
    fork = multiprocessing.get_context("fork")
    fork.Process(target=time.sleep, args=(1000,)).start()
    pool = ProcessPoolExecutor(2, mp_context=fork)
    pool.submit(time.sleep, 1000)
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    subprocess.Popen([sys.executable, "-c", DEAF])
    return pool


def predict_fn(data, model):
    return model.submit(slowly, data).result()

"""Training again whenever the code changes."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from local_sagemaker.training.watch import train_again_on_change

from tests.support.waiting import wait_until


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("1")
    return folder


class Jobs:
    """What was started and stopped; after the last one the watch is interrupted."""

    def __init__(self, last):
        self.events = []
        self.last = last

    def start(self, number):
        self.events.append(("start", number))
        if number == self.last:
            raise KeyboardInterrupt
        return Job(self.events, number)


class Job:
    def __init__(self, events, number):
        self.events, self.number = events, number

    def stop(self):
        self.events.append(("stop", self.number))


def test_a_change_stops_the_job_and_starts_the_next_one(code):
    jobs = Jobs(last=3)
    changes = threading.Thread(target=change_after_each_start, args=(code, jobs))
    changes.start()
    with pytest.raises(KeyboardInterrupt):
        train_again_on_change(code, jobs.start)
    changes.join(60)
    assert jobs.events == [("start", 1), ("stop", 1), ("start", 2), ("stop", 2), ("start", 3)]


def change_after_each_start(code, jobs):
    """New text of another size, so that it differs also where times are coarse."""
    for number in (1, 2):
        wait_until(lambda number=number: ("start", number) in jobs.events, f"job {number}", 60)
        (code / "train.py").write_text("1" * (number + 1))


def test_byoc_trains_the_new_code_and_ctrl_c_leaves_nothing_of_the_job_that_was_cut_short(make_project, tmp_path):
    waits = "import threading; threading.Event().wait()"
    root = make_project(train=f"print('first version', flush=True); {waits}")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "local_sagemaker", "train", root, "--engine", "process", "--watch"]
    with out.open("wb") as sink:
        process = subprocess.Popen([*map(str, command)], stdout=sink, stderr=sink, env=dict(os.environ))
        try:
            wait_until(lambda: "first version" in out.read_text(), "the first job", 120, lambda: why(process, out))
            (root / "code" / "train.py").write_text(f"print('second version', flush=True); {waits}")
            wait_until(lambda: "second version" in out.read_text(), "the second job", 120, lambda: why(process, out))
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(120)
    assert code == 130, out.read_text()
    assert list((root / ".byoc" / "jobs").iterdir()) == []


def why(process, out):
    return out.read_text() if process.poll() is not None else None

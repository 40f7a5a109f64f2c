"""Whether process 1 hears SIGTERM, and what a container that was told to stop says about the rules."""

import pytest
from local_sagemaker.conformance.container import Process, Thread
from local_sagemaker.conformance.signals import Stop, await_stop, hears_sigterm, shell_that_waits
from local_sagemaker.conformance.training import judge_stop

TERM = 1 << 14
WAITS = Thread("S", 0, 0, "do_wait")
HANDLES = Thread("S", 0, TERM, "do_wait")


class Told:
    """A container whose readings a test writes, one for each time that it is asked whether it has ended."""

    def __init__(self, readings, command=("python3", "train.py"), children=()):
        self.readings = list(readings)
        self.asked = 0
        self.words = command
        self.children = children

    @property
    def has_ended(self):
        self.asked += 1
        return self.asked > len(self.readings)

    def threads(self):
        return self.readings[max(self.asked, 1) - 1]

    def processes(self):
        return [Process(1, 0, self.words[0]), *(Process(7, 1, name) for name in self.children)]

    def command(self):
        return list(self.words)


@pytest.mark.parametrize(
    ("threads", "hears"),
    [
        ([HANDLES], True),
        ([Thread("S", TERM, 0, "ep_poll")], True),
        ([Thread("S", 0, 0, "do_sigtimedwait.isra.0")], True),
        ([WAITS, Thread("S", TERM, 0, "0")], True),
        ([WAITS], False),
        ([Thread("R", 0, 2, "0")], False),
        ([Thread("S", 0, 0, "0")], None),
        ([], None),
    ],
)
def test_process_1_hears_sigterm_by_a_handler_or_by_waiting_for_it(threads, hears):
    """1.12, 13.2: whoever sleeps in sigtimedwait shows no mask; where nobody can look nothing is said."""
    assert hears_sigterm(threads) is hears


def test_shell_that_waits_for_its_child_is_shown_with_both():
    """0.3, 1.12."""
    shell = Told([[WAITS]], ("/bin/bash", "run.sh", "train"), ("python3",))
    assert shell_that_waits(shell) == ["process 1: /bin/bash run.sh train", "its child: python3"]


@pytest.mark.parametrize(
    "container",
    [
        Told([[HANDLES]], ("/bin/sh", "run.sh"), ("python3",)),
        Told([[WAITS]], ("/bin/sh", "run.sh")),
        Told([[WAITS]], ("python3", "train.py"), ("python3",)),
    ],
)
def test_shell_with_a_trap_or_no_child_and_any_other_program_is_no_such_shell(container):
    """0.3: a script may wait for its child where it passes the signal on."""
    assert shell_that_waits(container) is None


def test_container_that_never_hears_is_not_waited_for_to_the_limit(monkeypatch):
    """1.12: two minutes of the user's time for what is known."""
    monkeypatch.setattr("local_sagemaker.conformance.signals.DEAF_SECONDS", 0.2)
    stop = await_stop(Told([[WAITS]] * 1000), 60)
    assert (stop.ended, stop.deaf) == (False, True)
    assert stop.seconds < 30


def test_one_reading_that_cannot_be_told_makes_nobody_deaf():
    """1.12."""
    stop = await_stop(Told([[WAITS], [WAITS], [], [WAITS], [WAITS], [WAITS]]), 60)
    assert (stop.ended, stop.deaf) == (True, False)


@pytest.mark.parametrize(
    ("stop", "remaining", "outcome"),
    [
        (Stop(ended=True, seconds=0.4, deaf=False), 5.0, "passed"),
        (Stop(ended=True, seconds=4.9, deaf=False), 5.0, "skipped"),
        (Stop(ended=True, seconds=0.1, deaf=False), 0.4, "skipped"),
        (Stop(ended=True, seconds=2.9, deaf=True), 3.0, "violated"),
        (Stop(ended=True, seconds=1.0, deaf=True), 9.0, "skipped"),
        (Stop(ended=False, seconds=5.0, deaf=True), 60.0, "violated"),
        (Stop(ended=False, seconds=120.0, deaf=False), 5.0, "violated"),
    ],
)
def test_training_that_ends_by_itself_is_not_taken_for_one_that_was_stopped(stop, remaining, outcome):
    """1.12: and where the two cannot be told apart, nothing is said to be kept."""
    assert judge_stop(stop, remaining, "log: epoch 3").outcome == outcome

"""What a check that was killed has left is told from what another check works with."""

import subprocess
import sys

from local_sagemaker.conformance.leftovers import RUNNER_LABEL, is_abandoned, remove_abandoned, runner_labels


class Resource:
    """A container, or a network, that can be removed."""

    def __init__(self, labels):
        self.labels = labels
        self.attrs = {"Labels": labels}
        self.removed = False

    def remove(self, **_):
        self.removed = True


class Client:
    """An engine that has some of each."""

    def __init__(self, containers, networks):
        self.containers = type("Containers", (), {"list": lambda _, **__: containers})()
        self.networks = type("Networks", (), {"list": lambda _, **__: networks})()


def labels_of_another_process():
    """Of one that has made its labels and ended."""
    code = "from local_sagemaker.conformance import leftovers; print(leftovers.runner_labels()[leftovers.RUNNER_LABEL])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {RUNNER_LABEL: done.stdout.strip()}


def test_containers_and_networks_of_a_process_that_is_gone_are_removed_and_ours_stay():
    """22.3: kill -9 leaves them to the next check."""
    ours, theirs, network = Resource(runner_labels()), Resource(labels_of_another_process()), Resource({})
    network.attrs["Labels"] = theirs.labels
    assert remove_abandoned(Client([ours, theirs], [network])) == 2
    assert (ours.removed, theirs.removed, network.removed) == (False, True, True)


def test_another_machines_check_is_not_judged():
    """Its process numbers are not ours: it may run."""
    assert not is_abandoned({RUNNER_LABEL: "elsewhere/pid:[1] 99999999 1"})
    assert not is_abandoned({})

"""A running job's record, as its threads see it."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from local_sagemaker.training.transitions import RecordJournal


class Records:
    """One job's record; each thread's connection counts changes from the same number on."""

    def __init__(self):
        self.status = "InProgress"

    def data_version(self):
        return 1

    def find(self, _kind, _name):
        return [SimpleNamespace(status=self.status)]


def test_a_request_to_stop_between_two_attempts_is_seen_by_the_second_ones_thread():
    """1.12, 7.5: after an interruption another thread looks after the job."""
    records = Records()
    journal = RecordJournal(records, "job")
    assert not journal.must_stop
    records.status = "Stopping"
    with ThreadPoolExecutor(1) as second:
        assert second.submit(lambda: journal.must_stop).result(60)

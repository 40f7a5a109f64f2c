"""The file of alarms, which several commands may write at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.alarms import Alarm, AlarmBook


@pytest.fixture
def book(tmp_path):
    return AlarmBook(tmp_path / ".byoc" / "alarms.json")


def test_alarms_that_are_put_at_once_are_all_kept(book):
    """20.5."""
    names = {f"alarm-{number}" for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: book.put(Alarm(name, "error-rate", 0.1)), sorted(names)))
    assert set(book.names) == names


def test_removing_an_alarm_that_is_not_there_leaves_no_file(book):
    """20.5."""
    with pytest.raises(UsageError, match="there is no alarm a"):
        book.remove("a")
    assert not book.file.parent.exists()

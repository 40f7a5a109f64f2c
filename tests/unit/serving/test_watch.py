"""When a worker counts as one whose threads are all stuck."""

from sagemaker_byoc.serving.watch import Watch


def looks(watch: Watch, *times: float) -> list[bool]:
    return [watch.is_stuck(now) for now in times]


def test_worker_is_stuck_when_every_thread_stays_past_its_deadline() -> None:
    """14.7: two seconds are for a function that is about to return."""
    watch = Watch(threads=2)
    watch.begin(deadline=10.0)
    assert looks(watch, 11, 12, 13, 14) == [False] * 4
    watch.begin(deadline=12.5)
    assert looks(watch, 12, 13, 14, 15) == [False, False, False, True]


def test_pause_of_the_whole_container_makes_no_thread_stuck() -> None:
    """14.7: the clock went on in it, and the function did not; once it runs again, it returns."""
    watch = Watch(threads=1)
    request = watch.begin(deadline=70.0)
    assert looks(watch, 10, 11, 200) == [False] * 3
    watch.end(request)
    assert looks(watch, 201, 202, 203) == [False] * 3


def test_looks_at_which_a_thread_was_past_its_deadline_count_only_in_a_row() -> None:
    """14.7: each function gets the whole of its grace."""
    watch = Watch(threads=1)
    for number in range(5):
        request = watch.begin(deadline=10.0 * number)
        assert looks(watch, 10 * number + 1, 10 * number + 2) == [False] * 2
        watch.end(request)
        assert looks(watch, 10 * number + 3) == [False]

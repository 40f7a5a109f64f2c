"""The instances of a variant, and when those that fail are replaced."""

from local_sagemaker.hosting.fleet import delay_after


def test_delays_between_instances_that_do_not_last_grow_to_half_a_minute_and_never_end_the_endpoint():
    """14.6: a model that cannot be loaded for days."""
    assert [delay_after(failures) for failures in (0, 1, 4, 5, 100_000)] == [1.0, 2.0, 16.0, 30.0, 30.0]

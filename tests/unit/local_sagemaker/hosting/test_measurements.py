"""An endpoint's counts over time: what a window of the last seconds holds, and how much is kept for it."""

import tracemalloc

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.invocation_metrics import Latency, VariantMetrics
from local_sagemaker.hosting.measurements import SNAPSHOT_SECONDS, Measurements, read_metrics

KEY = ("blue", "1")


@pytest.fixture
def observed(tmp_path):
    """Measurements after 1000 s of 8 requests a second, and the clock's end."""
    clock = [0.0]

    def ask():
        return {KEY: VariantMetrics(invocations=int(clock[0] * 8))}

    measurements = Measurements(tmp_path, ask, list)
    while clock[0] < 1000:
        clock[0] += SNAPSHOT_SECONDS
        measurements.look(clock[0])
    return measurements, clock[0]


@pytest.mark.parametrize("seconds", [1, 10, 60, 300, 890])
def test_a_window_holds_what_was_counted_within_it(observed, seconds):
    """20.5, 20.8."""
    measurements, now = observed
    found = measurements.window(KEY, now, seconds).invocations / 8
    assert found == pytest.approx(seconds, abs=0.3 if seconds < 60 else 5.5)


def test_what_a_window_may_ask_for_takes_little_memory_however_busy_the_variant(tmp_path):
    """20.8."""
    clock = [0.0]

    def ask():
        done = int(clock[0] * 1000)
        latencies = (Latency(done, done, done, {bucket: done + bucket for bucket in range(400)}) for _ in range(2))
        return {KEY: VariantMetrics(done, 0, 0, 0, 0, 0, *latencies)}

    measurements = Measurements(tmp_path, ask, list)
    tracemalloc.start()
    try:
        while clock[0] < 50:
            clock[0] += SNAPSHOT_SECONDS
            measurements.look(clock[0])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert measurements.window(KEY, clock[0], 40).invocations == pytest.approx(40_000, rel=0.02)
    assert kept < 3e6  # as objects they would take 9 MB


def test_counts_that_did_not_change_are_not_written_again(tmp_path):
    """20.8."""
    counts = [VariantMetrics(invocations=1)]
    measurements = Measurements(tmp_path, lambda: {KEY: counts[0]}, list)
    file = tmp_path / "metrics.json"
    measurements.look(10.0)
    assert read_metrics(tmp_path) == {KEY: counts[0]}
    file.unlink()
    measurements.look(20.0)
    assert not file.exists()
    counts[0] = VariantMetrics(invocations=2)
    measurements.look(30.0)
    assert read_metrics(tmp_path) == {KEY: counts[0]}


@pytest.mark.parametrize("most", [1, 7, 100, 10_000])
def test_a_thinned_sample_is_every_nth_latency_in_order(most):
    """20.8."""
    latency = Latency(600, 0, 0, {40: 100, 10: 1, 60: 499})
    whole = latency.sample_ms()
    step = -(-600 // most)
    assert len(whole) == 600
    assert whole == sorted(whole)
    assert latency.sample_ms(most) == whole[step // 2 :: step]


def test_points_that_could_not_be_kept_are_kept_with_the_next(tmp_path):
    """20.8."""
    kept, is_full = [], True

    def keep(points):
        if is_full:
            raise UsageError("no room", "expected some", "make it")
        kept.extend(points)

    counted = [3]
    measurements = Measurements(tmp_path, lambda: {KEY: VariantMetrics(invocations=counted[0])}, keep)
    with pytest.raises(UsageError):
        measurements.close()
    is_full = False
    counted[0] = 5
    measurements.close()
    assert {point.metric: point.value for point in kept}["Invocations"] == 5

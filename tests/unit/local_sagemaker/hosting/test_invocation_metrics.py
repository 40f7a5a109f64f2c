"""What is counted of a variant, and how near the histogram is to the truth."""

from random import Random
from statistics import mean, variance

import pytest
from local_sagemaker.hosting.invocation_metrics import (
    LatencyCounter,
    VariantCounter,
    bucket_of,
    middle_of,
    prometheus_text,
)
from local_sagemaker.hosting.routing import Variant
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.local_sagemaker.hosting.containers import always, answer


@pytest.mark.parametrize("microseconds", [0, 1, 63, 64, 100, 12_345, 60_000_000, 3_600_000_000])
def test_a_bucket_is_within_1_6_percent_of_its_latencies(microseconds):
    """20.8."""
    assert middle_of(bucket_of(microseconds)) == pytest.approx(microseconds, rel=0.016)


def test_mean_variance_and_percentiles_are_the_samples():
    """20.8."""
    random = Random(1)  # noqa: S311
    sample = [random.lognormvariate(9, 1) for _ in range(5000)]
    counter = LatencyCounter()
    for value in sample:
        counter.add(value / 1e6)
    found = counter.snapshot()
    assert found.mean == pytest.approx(mean(sample), rel=1e-3)
    assert found.variance == pytest.approx(variance(sample), rel=1e-3)
    for share in (50, 90, 99):
        assert found.percentile(share) == pytest.approx(sorted(sample)[5000 * share // 100 - 1], rel=0.02)
    assert mean(found.sample_ms(1000)) == pytest.approx(mean(sample) / 1000, rel=0.05)


def test_later_less_earlier_is_the_period_between():
    """20.8."""
    counter = VariantCounter()
    counter.count(200, (0.010, 0.001))
    earlier = counter.snapshot()
    counter.count(500, (0.020, 0.001))
    counter.count(404, (0.020, 0.001))
    period = counter.snapshot() - earlier
    assert (period.invocations, period.errors_4xx, period.errors_5xx, period.model_errors) == (2, 1, 1, 2)
    assert period.model_latency.mean == 20_000
    assert period.model_latency.percentile(1) == pytest.approx(20_000, rel=0.016)
    assert (earlier.model_latency + period.model_latency).count == 3


def test_an_empty_period_has_no_latencies():
    """20.8."""
    empty = VariantCounter().snapshot()
    assert set(empty.named()) == {
        "Invocations",
        "Invocation4XXErrors",
        "Invocation5XXErrors",
        "InvocationModelErrors",
    }


def test_a_router_counts_what_its_containers_did(containers, make_endpoint):
    """20.8."""
    good, bad = containers.start(), containers.start(always(answer(b"", 404)))
    endpoint = make_endpoint(Variant("good", (good.instance("g"),)), Variant("bad", (bad.instance("b"),)), seed=1)
    for name in ("good", "good", "bad"):
        endpoint.post(X_Amzn_SageMaker_Target_Variant=name)
    assert endpoint.metrics("good").named()["Invocations"] == 2
    assert endpoint.metrics("bad").named()["Invocation4XXErrors"] == 1
    found = endpoint.metrics("good")
    assert found.model_latency.count == found.overhead_latency.count == 2
    assert found.model_latency.mean > 0


def test_prometheus_reads_the_metrics(one):
    """15.14, 20.8."""
    import urllib.request

    endpoint, _ = one()
    endpoint.post()
    with urllib.request.urlopen(f"{endpoint.url}/metrics") as found:
        text = found.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = families["sagemaker_invocations"].samples
    assert (sample.labels["variant"], sample.value) == ("blue", 1.0)
    histogram = {
        (one.name, one.labels.get("le")): one.value for one in families["sagemaker_model_latency_seconds"].samples
    }
    assert histogram["sagemaker_model_latency_seconds_bucket", "+Inf"] == 1.0
    assert prometheus_text(endpoint.router.metrics()).decode() == text

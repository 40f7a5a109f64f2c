"""Two production variants side by side: error rates, latencies and a metric of the user's own, each with an interval.

Numbers in, numbers and a decision out; where they come from is for others. SciPy does the statistics, and is imported
only when a report is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CONFIDENCE = 0.95
RESAMPLES = 1000
# Enough for the third digit of a p99; more would only make the resampling slow.
MOST_LATENCIES = 20_000
# Below this a difference says more about chance than about a variant.
FEWEST_REQUESTS = 30
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}

Decision = Literal["shift", "keep", "undecided"]


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval that holds the truth with the report's confidence."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is one."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Outcomes:
    """What one variant did.

    Attributes:
        variant: its name.
        requests: how many it was asked.
        errors: how many of them it did not answer with success.
        latencies_ms: of its answers, or an even sample of them.
        judged: how many answers have a known truth.
        right: how many of those agree with it.
    """

    variant: str
    requests: int
    errors: int
    latencies_ms: Sequence[float] = field(default=(), repr=False)
    judged: int = 0
    right: int = 0


@dataclass(frozen=True)
class VariantReport:
    """One variant's numbers, each with its interval; None where nothing was measured."""

    variant: str
    requests: int
    errors: int
    error_rate: Interval | None
    latency_ms: dict[str, Interval]
    judged: int
    accuracy: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two variants, their differences (second minus first), and what to do about the second one's traffic."""

    confidence: float
    first: VariantReport
    second: VariantReport
    error_rate_difference: Interval | None
    latency_ms_difference: dict[str, Interval]
    accuracy_difference: Interval | None
    decision: Decision
    words: str

    def document(self) -> dict[str, Any]:
        """The report for a machine."""
        return asdict(self)


def compare(first: Outcomes, second: Outcomes, confidence: float = CONFIDENCE) -> Comparison:
    """Compare ``second``, the challenger, with ``first``, what callers have today."""
    reports = (_report(first, confidence), _report(second, confidence))
    errors = _rates_difference((first.errors, first.requests), (second.errors, second.requests), confidence)
    latency = _latency_differences(first.latencies_ms, second.latencies_ms, confidence)
    accuracy = _rates_difference((first.right, first.judged), (second.right, second.judged), confidence)
    decision, words = _decide(first, second, errors, latency.get("mean"), accuracy, confidence)
    return Comparison(confidence, *reports, errors, latency, accuracy, decision, words)


def rate(count: int, of: int, confidence: float = CONFIDENCE) -> Interval | None:
    """A proportion with Wilson's interval; None of nothing."""
    from scipy.stats import binomtest  # noqa: PLC0415

    if of == 0:
        return None
    limits = binomtest(count, of).proportion_ci(confidence, method="wilson")
    return Interval(count / of, float(limits.low), float(limits.high))


def _rates_difference(first: tuple[int, int], second: tuple[int, int], confidence: float) -> Interval | None:
    """Newcombe's interval of a difference of two proportions, made of Wilson's of each."""
    one, other = rate(*first, confidence), rate(*second, confidence)
    if one is None or other is None:
        return None
    difference = other.value - one.value
    below = ((other.value - other.low) ** 2 + (one.high - one.value) ** 2) ** 0.5
    above = ((other.high - other.value) ** 2 + (one.value - one.low) ** 2) ** 0.5
    return Interval(difference, difference - below, difference + above)


def _report(outcomes: Outcomes, confidence: float) -> VariantReport:
    return VariantReport(
        outcomes.variant,
        outcomes.requests,
        outcomes.errors,
        rate(outcomes.errors, outcomes.requests, confidence),
        latency_intervals(outcomes.latencies_ms, confidence),
        outcomes.judged,
        rate(outcomes.right, outcomes.judged, confidence),
    )


def latency_intervals(latencies_ms: Sequence[float], confidence: float = CONFIDENCE) -> dict[str, Interval]:
    """Mean (by Student's t) and quantiles (by order statistics) of a sample; {} for fewer than two latencies."""
    import numpy as np  # noqa: PLC0415
    from scipy.stats import binom, t  # noqa: PLC0415

    if len(latencies_ms) < 2:
        return {}
    sample = np.sort(np.asarray(latencies_ms, dtype=float))
    count = len(sample)
    mean, error = float(sample.mean()), float(sample.std(ddof=1)) / count**0.5
    reach = float(t.ppf((1 + confidence) / 2, count - 1)) * error
    intervals = {"mean": Interval(mean, mean - reach, mean + reach)}
    for name, share in QUANTILES.items():
        # How many of the sample lie below the true quantile is binomial, so its interval is one of places.
        low = int(binom.ppf((1 - confidence) / 2, count, share))
        high = int(binom.ppf((1 + confidence) / 2, count, share))
        places = (max(low - 1, 0), min(high, count - 1))
        value = float(np.quantile(sample, share))
        intervals[name] = Interval(value, min(value, float(sample[places[0]])), max(value, float(sample[places[1]])))
    return intervals


def _latency_differences(first: Sequence[float], second: Sequence[float], confidence: float) -> dict[str, Interval]:
    """Of the means by Welch's t, of the quantiles by resampling both sides."""
    import numpy as np  # noqa: PLC0415
    from scipy.stats import bootstrap, ttest_ind  # noqa: PLC0415

    if min(len(first), len(second)) < 2:
        return {}
    one, other = (np.asarray(thinned(side), dtype=float) for side in (first, second))
    between = float(other.mean() - one.mean())
    if one.std() == 0 and other.std() == 0:
        return {"mean": Interval(between, between, between)}
    limits = ttest_ind(other, one, equal_var=False).confidence_interval(confidence)
    differences = {"mean": Interval(between, float(limits.low), float(limits.high))}
    for name, share in QUANTILES.items():
        statistic = _quantile_difference(share)
        found = bootstrap(
            (one, other),
            statistic,
            n_resamples=RESAMPLES,
            batch=50,
            vectorized=True,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        differences[name] = Interval(float(statistic(one, other)), float(found.low), float(found.high))
    return differences


def _quantile_difference(share: float) -> Callable[..., Any]:
    import numpy as np  # noqa: PLC0415

    def difference(one: Any, other: Any, axis: int = -1) -> Any:
        return np.quantile(other, share, axis=axis) - np.quantile(one, share, axis=axis)

    return difference


def thinned(latencies_ms: Sequence[float], most: int = MOST_LATENCIES) -> Sequence[float]:
    """At most ``most`` latencies, evenly taken from the whole time."""
    step = -(-len(latencies_ms) // most) if latencies_ms else 1
    return latencies_ms[::step]


def _decide(
    first: Outcomes,
    second: Outcomes,
    errors: Interval | None,
    latency: Interval | None,
    accuracy: Interval | None,
    confidence: float,
) -> tuple[Decision, str]:
    """What differs, the most important first: being right, then answering at all, then answering soon."""
    few = [side for side in (first, second) if side.requests < FEWEST_REQUESTS]
    if few:
        counts = " and ".join(f"{side.variant} has {side.requests}" for side in few)
        return "undecided", f"{counts} of the {FEWEST_REQUESTS} requests that a comparison needs: go on measuring"
    name = second.variant
    found = [
        _judge(accuracy, f"{name} is right", 100.0, "points more often", "points less often", "accuracy", confidence),
        _judge(errors, f"{name} fails", 100.0, "points more often", "points less often", "errors", confidence, -1),
        _judge(latency, f"{name} is", 1.0, "ms slower", "ms faster", "latencies", confidence, -1),
    ]
    said = [verdict for verdict in found if verdict is not None]
    better = next((verdict[0] for verdict in said if verdict[0] != 0), 0)
    decision: Decision = "shift" if better > 0 else "keep" if better < 0 else "undecided"
    do = {
        "shift": f"shift traffic to {name}",
        "keep": f"keep {first.variant}",
        "undecided": "either will do, or go on measuring",
    }[decision]
    return decision, f"{', '.join(sentence for _, sentence in said)}: {do}"


def _judge(
    difference: Interval | None,
    subject: str,
    scale: float,
    more: str,
    less: str,
    topic: str,
    confidence: float,
    sign: int = 1,
) -> tuple[int, str] | None:
    """Whether a difference speaks for (1) or against (-1) the second variant, and the sentence that says so."""
    if difference is None:
        return None
    if not difference.excludes_zero:
        return 0, f"{topic} do not differ" if topic.endswith("s") else f"{topic} does not differ"
    up = difference.value > 0
    low, high = sorted(abs(limit) * scale for limit in (difference.low, difference.high))
    sentence = (
        f"{subject} {abs(difference.value) * scale:.2g} {more if up else less} "
        f"({confidence * 100:g} %: {low:.2g} to {high:.2g})"
    )
    return (sign if up else -sign), sentence

"""The strategies, each on an objective that is a formula."""

import importlib.util
import math
import statistics

import pytest
from local_sagemaker.tuning.definitions import read_definitions
from local_sagemaker.tuning.search import Observation, Search

CATEGORIES = {
    "CategoricalParameterRanges": [
        {"Name": "act", "Values": ["relu", "tanh"]},
        {"Name": "opt", "Values": ["sgd", "adam", "lion"]},
    ]
}
MIXED = {
    "ContinuousParameterRanges": [
        {"Name": "lr", "MinValue": "0.00001", "MaxValue": "1", "ScalingType": "Logarithmic"},
        {"Name": "momentum", "MinValue": "0", "MaxValue": "0.99", "ScalingType": "ReverseLogarithmic"},
    ],
    "IntegerParameterRanges": [{"Name": "layers", "MinValue": "1", "MaxValue": "8"}],
    "CategoricalParameterRanges": [{"Name": "act", "Values": ["relu", "tanh", "sigmoid"]}],
}


def loss(values):
    """Least at lr 0.01, momentum 0.9, 3 layers and relu."""
    return (
        (math.log10(float(values["lr"])) + 2) ** 2 * 0.3
        + (math.log10(1 - float(values["momentum"])) + 1) ** 2 * 0.3
        + (int(values["layers"]) - 3) ** 2 * 0.05
        + {"relu": 0.0, "tanh": 0.2, "sigmoid": 0.5}[values["act"]]
    )


@pytest.fixture
def search(make_request):
    def make(strategy, ranges=MIXED, jobs=20, seed=0, **options):
        (definition,) = read_definitions(make_request(strategy=strategy, ranges=ranges, **options))
        return Search(definition, strategy, jobs, "tune", seed)

    return make


def run(search, jobs, objective=loss):
    """Try so many jobs, one after the other; their values."""
    tried = []
    for _ in range(jobs):
        proposal = search.propose()
        if proposal is None:
            break
        tried.append(proposal.values)
        search.tell(proposal, objective(proposal.values))
    return tried


@pytest.fixture
def without_pytorch(monkeypatch):
    """Bayesian is much quicker without, at the price of its results."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)


def mean_best(search, strategy, seeds, jobs):
    return statistics.mean(min(map(loss, run(search(strategy, seed=seed), jobs))) for seed in seeds)


def test_bayesian_finds_better_values_than_random_with_sixteen_jobs(search):
    """24.1."""
    assert mean_best(search, "Bayesian", range(2), 16) < 0.7 * mean_best(search, "Random", range(20), 16)


def test_bayesian_without_pytorch_finds_better_values_than_random_too(search, without_pytorch):
    """24.1."""
    assert mean_best(search, "Bayesian", range(8), 24) < 0.7 * mean_best(search, "Random", range(20), 24)


def test_a_grid_visits_each_combination_once(search):
    """24.1, 24.4."""
    grid = search("Grid", CATEGORIES)
    tried = run(grid, 10, lambda _values: 1.0)
    assert len(tried) == 6
    assert {(one["act"], one["opt"]) for one in tried} == {
        (act, opt) for act in ("relu", "tanh") for opt in ("sgd", "adam", "lion")
    }


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_no_values_are_tried_twice_and_a_small_space_is_exhausted(search, strategy, without_pytorch):
    tried = run(search(strategy, CATEGORIES), 10, lambda _values: 1.0)
    assert len({tuple(one.values()) for one in tried}) == len(tried) == 6


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_same_seed_makes_the_same_proposals(search, strategy, without_pytorch):
    """24.1."""
    first, second = (run(search(strategy, seed=3), 8) for _ in range(2))
    assert first == second
    assert run(search(strategy, seed=4), 8) != first


def test_logarithmic_scaling_gives_each_decade_as_many_jobs(search):
    """24.4."""
    rates = [float(one["lr"]) for one in run(search("Random", jobs=400), 400)]
    decades = [sum(10.0**-k <= rate < 10.0 ** (1 - k) for rate in rates) for k in range(1, 6)]
    assert all(50 < count < 110 for count in decades)


def test_hyperband_gives_more_epochs_to_the_better(search):
    """24.6."""
    hyperband = search("Hyperband", {"ContinuousParameterRanges": MIXED["ContinuousParameterRanges"][:1]},
                       static={"epochs": "27"})  # fmt: skip
    epochs = {}
    for _ in range(30):
        proposal = hyperband.propose()
        loss_of_it = abs(math.log10(float(proposal.values["lr"])) + 2)
        epoch = next((epoch for epoch in range(1, 28) if hyperband.report(proposal, epoch, loss_of_it)), 27)
        hyperband.tell(proposal, loss_of_it)
        epochs[loss_of_it] = epoch
    by_loss = [epochs[one] for one in sorted(epochs)]
    assert statistics.mean(by_loss[:10]) > 2 * statistics.mean(by_loss[20:])
    assert max(by_loss) == 27
    assert sum(by_loss) < 30 * 27 / 2


def test_hyperband_never_stops_a_job_before_its_least_resource(search):
    """24.6."""
    config = {"StrategyConfig": {"HyperbandStrategyConfig": {"MinResource": 3, "MaxResource": 9}}}
    hyperband = search("Hyperband", **config)
    for badness in range(12):
        proposal = hyperband.propose()
        assert not any(hyperband.report(proposal, epoch, float(badness)) for epoch in (1, 2))


def test_hyperband_stops_a_job_that_goes_on_after_its_largest_resource(search):
    """24.6."""
    hyperband = search("Hyperband", StrategyConfig={"HyperbandStrategyConfig": {"MaxResource": 9}})
    proposal = hyperband.propose()  # the first of its bracket is stopped by nothing else
    assert [hyperband.report(proposal, epoch, 1 / epoch) for epoch in range(1, 11)] == [False] * 9 + [True]


def test_what_others_have_learned_makes_the_first_proposals_better(search, without_pytorch):
    """24.7."""
    known = [Observation(values, loss(values)) for values in run(search("Random", seed=9), 40)]

    def first(seed, observations):
        warm = search("Bayesian", seed=seed)
        warm.learn(observations)
        return min(map(loss, run(warm, 6)))

    cold, warm = (statistics.mean(first(seed, known_before) for seed in range(12)) for known_before in ([], known))
    assert warm < 0.7 * cold


def test_what_lies_outside_of_the_ranges_is_not_learned(search):
    """24.7."""
    inside = {"lr": "0.1", "momentum": "0.5", "layers": "2", "act": "relu"}
    outside = [{**inside, "layers": "9"}, {**inside, "act": "gelu"}, {"lr": "0.1"}]
    assert search("Bayesian").learn([Observation(values, 1.0) for values in (inside, *outside)]) == 1


def test_wishes_are_proposed_first(search):
    """24.7."""
    wish = {"lr": "0.1", "momentum": "0.5", "layers": "2", "act": "relu", "epochs": "3"}
    tried = search("Random")
    assert tried.want([wish, {**wish, "act": "gelu"}]) == 1
    assert tried.propose().values == {name: wish[name] for name in ("layers", "lr", "momentum", "act")}


def test_a_job_without_an_objective_is_passed_over(search, without_pytorch):
    """8.5."""
    bayesian = search("Bayesian")
    for place in range(8):
        proposal = bayesian.propose()
        bayesian.tell(proposal, loss(proposal.values) if place % 2 else None)
    assert bayesian.propose() is not None

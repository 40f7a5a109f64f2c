"""The search for better hyperparameters: proposes the values of one training job after another, and learns from them.

Optuna does the searching. Bayesian is its Gaussian process where PyTorch is there: on budgets of a dozen jobs it found
clearly better values than its tree of Parzen estimators, which takes its place without PyTorch and for many jobs.
"""

from __future__ import annotations

import importlib.util
import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple

from local_sagemaker.tuning.ranges import CategoricalRange

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

    from local_sagemaker.tuning.definitions import Definition

Strategy = Literal["Bayesian", "Random", "Grid", "Hyperband"]

STARTUP_JOBS = 4
# A Gaussian process takes seconds for a proposal once it knows so many jobs.
MAX_GAUSSIAN_JOBS = 200
REDUCTION_FACTOR = 3


class Proposal(NamedTuple):
    """The values to try next, and Optuna's own notes of them."""

    values: dict[str, str]
    trial: Trial


@dataclass(frozen=True)
class Observation:
    """What a job of an earlier tuning job got: its hyperparameters, tuned and static, and its objective."""

    values: Mapping[str, str]
    objective: float


class Search:
    """The search within one definition's ranges.

    Args:
        definition: what is searched.
        strategy: how.
        jobs: how many training jobs there may be, at most.
        name: makes the brackets of Hyperband, and so the same search again.
        seed: makes the same proposals again, as long as jobs end in the same order; None for others each time.
    """

    def __init__(self, definition: Definition, strategy: Strategy, jobs: float, name: str, seed: int | None) -> None:
        optuna = _quiet_optuna()
        self._definition = definition
        self._distributions = {one.name: one.distribution() for one in definition.ranges}
        direction = "maximize" if definition.is_maximized else "minimize"
        self.sampler_name, sampler = _sampler(strategy, jobs, seed)
        self._study: Study = optuna.create_study(
            study_name=name if seed is None else str(seed),
            direction=direction,
            sampler=sampler,
            pruner=_pruner(definition),
        )
        self._spare: Study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        self._seen: set[tuple[str, ...]] = set()
        self._wanted: Iterator[dict[str, str]] = self._grid() if strategy == "Grid" else iter(())

    def learn(self, observations: list[Observation]) -> int:
        """Take what other jobs have got as this search's own; returns how many lie within the ranges."""
        optuna = _quiet_optuna()
        taken = 0
        for observation in observations:
            params = self._params(observation.values)
            if params is None:
                continue
            known = optuna.trial.create_trial(
                params=params, distributions=self._distributions, value=observation.objective
            )
            self._study.add_trial(known)
            self._seen.add(self._key(observation.values))
            taken += 1
        return taken

    def want(self, wishes: list[Mapping[str, str]]) -> int:
        """Propose these values first; returns how many of them lie within the ranges."""
        names = self._distributions.keys()
        within = [{name: values[name] for name in names} for values in wishes if self._params(values) is not None]
        self._wanted = itertools.chain(within, self._wanted)
        return len(within)

    def propose(self) -> Proposal | None:
        """The values to try next, never the same twice; None if all have been tried."""
        if len(self._seen) >= self._definition.size:
            return None
        wanted = next((values for values in self._wanted if self._key(values) not in self._seen), None)
        proposal = self._ask(wanted)
        if self._definition.size < float("inf") and self._key(proposal.values) in self._seen:
            self.tell(proposal, None)
            proposal = self._ask(self._unseen())
        self._seen.add(self._key(proposal.values))
        return proposal

    def report(self, proposal: Proposal, epoch: int, value: float) -> bool:
        """Note a job's objective after an epoch, counted from 1; whether Hyperband wants the job to be stopped."""
        if self._definition.resources is None:
            return False
        proposal.trial.report(value, epoch)
        # A job that ends by itself at the largest resource may do so: it has its model to write.
        return epoch > self._definition.resources.high or proposal.trial.should_prune()

    def tell(self, proposal: Proposal, objective: float | None) -> None:
        """A job has ended; None if it has no objective."""
        from optuna.trial import TrialState  # noqa: PLC0415

        if objective is None:
            self._study.tell(proposal.trial, state=TrialState.FAIL)
        else:
            self._study.tell(proposal.trial, objective)

    def _ask(self, values: Mapping[str, str] | None) -> Proposal:
        if values is not None:
            self._study.enqueue_trial(self._params(values) or {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the Gaussian process says at times that its own fit was hard
            trial = self._study.ask(self._distributions)
        return Proposal(self._texts(trial.params), trial)

    def _unseen(self) -> dict[str, str]:
        while True:
            values = self._texts(self._spare.ask(self._distributions).params)
            if self._key(values) not in self._seen:
                return values

    def _grid(self) -> Iterator[dict[str, str]]:
        ranges = [one for one in self._definition.ranges if isinstance(one, CategoricalRange)]
        for values in itertools.product(*(one.values for one in ranges)):
            yield {one.name: value for one, value in zip(ranges, values, strict=True)}

    def _texts(self, params: Mapping[str, object]) -> dict[str, str]:
        return {one.name: one.text(params[one.name]) for one in self._definition.ranges}

    def _params(self, values: Mapping[str, str]) -> dict[str, object] | None:
        """What would have to be drawn for some values, or None if one is missing or outside of its range."""
        params: dict[str, object] = {
            one.name: one.drawn(values[one.name]) for one in self._definition.ranges if one.name in values
        }
        return params if len(params) == len(self._distributions) and None not in params.values() else None

    def _key(self, values: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(values[one.name] for one in self._definition.ranges)


def _sampler(strategy: Strategy, jobs: float, seed: int | None) -> tuple[str, BaseSampler]:
    """Optuna's sampler for a strategy, and what to call it."""
    optuna = _quiet_optuna()
    if strategy != "Bayesian":
        return strategy.lower(), optuna.samplers.RandomSampler(seed=seed)
    if jobs <= MAX_GAUSSIAN_JOBS and importlib.util.find_spec("torch") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental
            return "Gaussian process", optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_JOBS)
    return "tree of Parzen estimators", optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=STARTUP_JOBS, constant_liar=True
    )


def _pruner(definition: Definition) -> BasePruner:
    from optuna.pruners import HyperbandPruner, NopPruner  # noqa: PLC0415

    if definition.resources is None:
        return NopPruner()
    low, high = definition.resources.low, definition.resources.high
    return HyperbandPruner(min_resource=low, max_resource=high, reduction_factor=REDUCTION_FACTOR)


def _quiet_optuna() -> ModuleType:
    """Optuna, imported when it is needed, which says nothing but errors."""
    import optuna  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna

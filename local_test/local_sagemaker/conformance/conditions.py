"""Many conditions tried in one start: all at once first, and each alone only where that does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from local_sagemaker.conformance.findings import Finding, passed, skipped, violated
from local_sagemaker.conformance.setup import Setup


@dataclass(frozen=True)
class Condition:
    """Something that the platform does to a container, and the rule that it shall not mind."""

    rule: str
    impose: Callable[[Setup], Setup]


@dataclass(frozen=True)
class Trial:
    """How one start went; ``evidence`` tells what went wrong; ``hopeless`` that another start would go no better."""

    works: bool
    evidence: tuple[str, ...] = ()
    hopeless: bool = False


def impose_all(conditions: Sequence[Condition], setup: Setup) -> Setup:
    """The setup under all conditions."""
    for condition in conditions:
        setup = condition.impose(setup)
    return setup


def attribute(
    basic: str, conditions: Sequence[Condition], setup: Setup, try_out: Callable[[Setup], Trial]
) -> Iterator[Finding]:
    """Find which conditions a container does not stand.

    Args:
        basic: the rule that it works at all.
        conditions: what it shall stand.
        setup: without any of them.
        try_out: starts a container.
    """
    under_all = try_out(impose_all(conditions, setup))
    if under_all.works:
        yield passed(basic)
        yield from (passed(condition.rule) for condition in conditions)
        return
    plain = under_all if under_all.hopeless or not conditions else try_out(setup)
    if not plain.works:
        yield violated(basic, *plain.evidence)
        yield from (skipped(one.rule, f"it does not work without this condition either: {basic}") for one in conditions)
        return
    yield passed(basic)
    broken = False
    for condition in conditions:
        trial = try_out(condition.impose(setup))
        broken |= not trial.works
        yield passed(condition.rule) if trial.works else violated(condition.rule, *trial.evidence)
    if not broken:
        for condition in conditions:
            yield skipped(condition.rule, "it works under each condition alone, and not under all at once")

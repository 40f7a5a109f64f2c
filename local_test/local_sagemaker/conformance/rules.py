"""All rules that there are, and a choice of them. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from local_sagemaker.conformance.image_rules import IMAGE_RULES
from local_sagemaker.conformance.rule import GROUPS, Rule
from local_sagemaker.conformance.serving_rules import SERVING_RULES
from local_sagemaker.conformance.training_rules import TRAINING_RULES
from local_sagemaker.errors import UsageError

RULES: tuple[Rule, ...] = (*IMAGE_RULES, *TRAINING_RULES, *SERVING_RULES)
BY_ID: Mapping[str, Rule] = {rule.id: rule for rule in RULES}


def choose_rules(groups: Iterable[str] = (), ids: Iterable[str] = (), without: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of some groups, or of some ids; all without either. An id may lack its ``BYOC-``.

    Args:
        groups: of ``GROUPS``.
        ids: of single rules.
        without: ids of those that are left out.

    Raises:
        UsageError: if there is no such group or rule, or if none is left.
    """
    wanted_groups, wanted, unwanted = set(groups), _full(ids), _full(without)
    unknown = sorted((wanted_groups - set(GROUPS)) | ((wanted | unwanted) - set(BY_ID)))
    if unknown:
        raise UsageError(
            f"there is no rule or group {', '.join(unknown)}",
            f"expected groups of {', '.join(GROUPS)}, or ids such as BYOC-S015",
            "see them with `byoc check --list`",
        )
    chosen = tuple(
        rule
        for rule in RULES
        if (not wanted_groups or rule.group in wanted_groups)
        and (not wanted or rule.id in wanted)
        and rule.id not in unwanted
    )
    if not chosen:
        raise UsageError(
            "no rule is left to check",
            "expected rules of --rule to be in the groups of --only, and not in --skip",
            "see them with `byoc check --list`",
        )
    return chosen


def _full(ids: Iterable[str]) -> set[str]:
    return {one if "-" in one else f"BYOC-{one}" for one in (given.upper() for given in ids)}

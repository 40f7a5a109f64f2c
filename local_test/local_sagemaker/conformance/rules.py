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


def choose_rules(groups: Iterable[str] = (), ids: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of some groups, or of some ids; all without either. An id may lack its ``BYOC-``.

    Raises:
        UsageError: if there is no such group or rule.
    """
    wanted_groups, wanted = set(groups), {one if "-" in one else f"BYOC-{one}" for one in ids}
    unknown = sorted((wanted_groups - set(GROUPS)) | (wanted - set(BY_ID)))
    if unknown:
        raise UsageError(
            f"there is no rule or group {', '.join(unknown)}",
            f"expected groups of {', '.join(GROUPS)}, or ids such as BYOC-S015",
            "see them with `byoc check --list`",
        )
    return tuple(
        rule
        for rule in RULES
        if (not wanted_groups or rule.group in wanted_groups) and (not wanted or rule.id in wanted)
    )

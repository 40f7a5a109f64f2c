"""A rule: what it asks of an image, in one sentence, how grave a breach is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

Group = Literal["image", "train", "serve"]
GROUPS: tuple[Group, ...] = get_args(Group)
# What an image is started for.
Role = Literal["train", "serve"]
ROLES: tuple[Role, ...] = get_args(Role)
# What a rule can only be decided with.
Need = Literal[
    "an image that trains",
    "an image that serves",
    "payload",
    "model data",
    "strict",
    "accept-bind-to-port",
    "multi-models",
    "bidirectional-streaming",
]
LABEL_PREFIX = "com.amazonaws.sagemaker.capabilities."
CAPABILITIES = ("accept-bind-to-port", "multi-models", "bidirectional-streaming")


class Severity(StrEnum):
    """How grave a breach is: an error breaks any job or endpoint, a warning those that use a feature."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


@dataclass(frozen=True)
class Rule:
    """One promise that an image has to keep.

    Attributes:
        id: as ``BYOC-S015``: the letter tells the group, the number stays a rule's own for ever.
        severity: how grave a breach is.
        sentence: what holds for an image that keeps it.
        source: the title of the platform's page.
        clause: its number in the table of the contract.
        remedy: what to do about a breach.
        needs: what it can only be decided with.
    """

    id: str
    severity: Severity
    sentence: str
    source: str
    clause: str
    remedy: str
    needs: tuple[Need, ...] = ()

    @property
    def group(self) -> Group:
        """Which part of the contract it belongs to."""
        return {"I": GROUPS[0], "T": GROUPS[1], "S": GROUPS[2]}[self.id[5]]

    @property
    def role(self) -> Role | None:
        """What the image has to be for, for the rule to say anything; None where that does not matter."""
        if self.group == "train" or "an image that trains" in self.needs:
            return "train"
        return "serve" if self.group == "serve" or "an image that serves" in self.needs else None


ERROR, WARNING, ADVICE = Severity.ERROR, Severity.WARNING, Severity.ADVICE
# Titles of pages that several groups of rules stand on.
TRAINS = "How SageMaker AI Runs Your Training Image"
HOSTS = "Custom Inference Code with Hosting Services"
ISOLATION = "Run Training and Inference Containers in Internet-Free Mode"

"""Which hosts a training job has, and in which instance groups: names and types, nothing that runs.

Source: SageMaker developer guide, "How SageMaker AI Provides Training Information" and "Train Using a Heterogeneous
Cluster".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count

from local_sagemaker.errors import UsageError

INSTANCE_TYPE = "local"
GROUP_NAME = "homogeneousCluster"
# More containers than this tell nothing new, and one machine has to run them all.
MAX_HOSTS = 20
MAX_GROUPS = 5
GROUP = re.compile(r"(?P<name>[a-zA-Z0-9_-]{1,64})=(?P<hosts>[0-9]{1,3})(:(?P<type>[a-zA-Z0-9.-]+))?")


@dataclass(frozen=True)
class InstanceGroup:
    """Hosts of one instance type; ``hosts`` are their names in lexicographic order."""

    name: str
    instance_type: str
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Cluster:
    """A job's hosts, all of them in one group unless the job asks for several."""

    groups: tuple[InstanceGroup, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names, in lexicographic order as the platform lists them: algo-1, algo-10, algo-2."""
        return tuple(sorted(host for group in self.groups for host in group.hosts))

    @property
    def leader(self) -> str:
        """The first host, by the convention of every launcher."""
        return self.hosts[0]

    def group_of(self, host: str) -> InstanceGroup:
        """The group that ``host`` is in."""
        return next(group for group in self.groups if host in group.hosts)


@dataclass(frozen=True)
class GroupRequest:
    """A group as the user asks for it; no ``instance_type`` means the job's."""

    name: str
    hosts: int
    instance_type: str | None = None


def plan_cluster(hosts: int = 1, instance_type: str = INSTANCE_TYPE, groups: tuple[GroupRequest, ...] = ()) -> Cluster:
    """Name the hosts ``algo-1`` to ``algo-N``.

    With groups they are dealt out in turn, so that a group's hosts are no neighbours: on the platform they need not be.

    Args:
        hosts: how many; with groups their sum.
        instance_type: what ``resourceconfig.json`` says.
        groups: the instance groups of a heterogeneous cluster.

    Raises:
        UsageError: if there are too many hosts, or the groups have another number of them.
    """
    total = sum(group.hosts for group in groups) if groups else hosts
    if not 1 <= total <= MAX_HOSTS:
        raise UsageError(f"{total} hosts", f"expected 1 to {MAX_HOSTS}", "write --hosts N")
    if groups and hosts not in {1, total}:
        raise UsageError(
            f"--hosts {hosts}, and instance groups of {total} hosts together",
            "the groups say how many hosts there are",
            "leave out --hosts",
        )
    wanted = groups or (GroupRequest(GROUP_NAME, hosts),)
    dealt = _deal(wanted)
    return Cluster(
        tuple(
            InstanceGroup(group.name, group.instance_type or instance_type, tuple(sorted(dealt[group.name])))
            for group in wanted
        )
    )


def parse_groups(text: str) -> tuple[GroupRequest, ...]:
    """Read ``name=count[:type],...``, as ``cpu=1:ml.c5.xlarge,gpu=2:ml.g5.xlarge``.

    Raises:
        UsageError: if a part is not of this form, a name comes twice, or there are too many.
    """
    matches = [GROUP.fullmatch(part.strip()) for part in text.split(",")]
    groups = tuple(
        GroupRequest(match["name"], int(match["hosts"]), match["type"]) for match in matches if match is not None
    )
    names = {group.name for group in groups}
    if len(groups) < len(matches) or any(group.hosts < 1 for group in groups) or len(names) < len(groups):
        raise UsageError(
            f"--instance-groups {text!r} cannot be read",
            "expected NAME=HOSTS or NAME=HOSTS:TYPE, with commas between groups, and each name once",
            "write for example --instance-groups cpu=1:ml.c5.xlarge,gpu=2:ml.g5.xlarge",
        )
    if len(groups) > MAX_GROUPS:
        raise UsageError(f"{len(groups)} instance groups", f"a job has at most {MAX_GROUPS}", "merge some of them")
    return groups


def _deal(groups: tuple[GroupRequest, ...]) -> dict[str, list[str]]:
    names = (f"algo-{number}" for number in count(1))
    dealt: dict[str, list[str]] = {group.name: [] for group in groups}
    while any(len(dealt[group.name]) < group.hosts for group in groups):
        for group in groups:
            if len(dealt[group.name]) < group.hosts:
                dealt[group.name].append(next(names))
    return dealt

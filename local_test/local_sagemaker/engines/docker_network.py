"""A network of a job's own on the Docker engine, with an address for each host that stays until the job's end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import docker.errors
import docker.types
from requests.exceptions import RequestException

from local_sagemaker.engines.base import NetworkPlan
from local_sagemaker.errors import UsageError

# Within a job's network; below it is the gateway, right below the least.
FIRST_ADDRESS = 10
LEAST_ADDRESS = 2
# Another job may take the addresses that were free a moment ago.
ATTEMPTS = 10
TAKEN = "overlaps"
REMOVAL_SECONDS = 30.0
PAUSE_SECONDS = 0.2


@contextmanager
def job_network(client: Any, plan: NetworkPlan) -> Iterator[Mapping[str, str]]:
    """Make a bridge network, internal where it is isolated, and remove it at the end of the block.

    Raises:
        UsageError: if Docker refuses, or gives fewer addresses than there are hosts.
    """
    try:
        yield _host_addresses(_make_with_subnet(client, plan), plan)
    finally:
        _remove(client, plan)


def _make_with_subnet(client: Any, plan: NetworkPlan) -> str:
    """Addresses can be given on a network with a subnet of one's own only, so Docker is asked for a free one first."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            subnet = make_network(client, plan)
            _remove(client, plan)
            make_network(client, plan, subnet)
        except docker.errors.APIError as error:
            if TAKEN not in str(error) or attempt == ATTEMPTS:
                raise UsageError(
                    f"Docker refuses to make the network {plan.name}: {error.explanation or error}",
                    "the hosts of a job have a network of their own",
                    "remove networks that nobody uses: `docker network prune`, and try again",
                ) from error
        else:
            break
    return subnet


def _host_addresses(subnet: str, plan: NetworkPlan) -> dict[str, str]:
    network = ip_network(subnet)
    room = network.num_addresses - len(plan.hosts)  # the last address is the broadcast's
    first = FIRST_ADDRESS if room > FIRST_ADDRESS else LEAST_ADDRESS
    if room <= first:
        raise UsageError(
            f"Docker gives {plan.name} the network {subnet}, too small for {len(plan.hosts)} hosts",
            "expected an address for each of them",
            "let Docker give larger ones: `default-address-pools` in its daemon.json",
        )
    return {host: str(network[first + place]) for place, host in enumerate(plan.hosts)}


def make_network(client: Any, plan: NetworkPlan, subnet: str | None = None) -> str:
    """Make the network; returns its subnet, which Docker chooses where none is given."""
    pools = [] if subnet is None else [docker.types.IPAMPool(subnet=subnet)]
    network = client.networks.create(
        plan.name,
        driver="bridge",
        internal=plan.isolated,
        labels=dict(plan.labels),
        check_duplicate=True,
        ipam=docker.types.IPAMConfig(pool_configs=pools),
    )
    network.reload()
    return str(network.attrs["IPAM"]["Config"][0]["Subnet"])


def _remove(client: Any, plan: NetworkPlan) -> None:
    # By its labels, so that a network whose making was interrupted is found as well.
    remove_networks(client, [f"{key}={value}" for key, value in plan.labels.items()], [plan.name])


def remove_networks(client: Any, labels: list[str], names: list[str] | None = None) -> int:
    """Remove the networks that carry the labels, of these names or of any; returns how many there were.

    One that is busy is tried for a while and then stays, to be found by its labels again: how a job ended does not hang
    on that.
    """
    limit = time.monotonic() + REMOVAL_SECONDS
    gone = 0
    while True:
        try:
            for network in client.networks.list(names=names, filters={"label": labels}):
                network.remove()
                gone += 1
        except (docker.errors.APIError, RequestException):
            # A container of it is on its way out; or another has removed it, and the next look shows none.
            if time.monotonic() > limit:
                return gone
            time.sleep(PAUSE_SECONDS)
        else:
            return gone

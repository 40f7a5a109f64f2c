"""A job's network, made while other jobs make theirs."""

from dataclasses import replace

import docker.errors
import pytest
from local_sagemaker.engines import NetworkPlan, docker_network
from local_sagemaker.engines.docker_network import job_network, remove_networks
from local_sagemaker.errors import UsageError

PLAN = NetworkPlan("byoc-train-job", ("algo-1", "algo-2"), isolated=False, labels={"job": "one"})


class Network:
    """One network of ``Networks``."""

    def __init__(self, owner, subnet):
        self._owner = owner
        self.attrs = {"IPAM": {"Config": [{"Subnet": subnet}]}}

    def reload(self):
        pass

    def remove(self):
        if self._owner.busy:
            raise self._owner.busy.pop()
        self._owner.there.remove(self)


class Networks:
    """An engine's networks; the first ``taken`` subnets are another's by the time that they are asked for."""

    def __init__(self, taken=0, busy=(), prefix=16):
        self.there = []
        self._prefix = prefix
        self.busy = list(busy)
        self.networks = self
        self._taken = taken
        self._given = 0

    def create(self, name, ipam, **_):
        if ipam["Config"] and self._given <= self._taken:
            raise docker.errors.APIError("Pool overlaps with other one on this address space")
        self._given += not ipam["Config"]
        self.there.append(Network(self, f"172.{self._given}.0.0/{self._prefix}"))
        return self.there[-1]

    def list(self, **_):
        return list(self.there)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(docker_network, "PAUSE_SECONDS", 0.01)


def test_addresses_that_another_job_has_taken_meanwhile_are_asked_for_anew():
    """5.2."""
    client = Networks(taken=3)
    with job_network(client, PLAN) as addresses:
        assert addresses == {"algo-1": "172.4.0.10", "algo-2": "172.4.0.11"}
        assert len(client.there) == 1
    assert client.there == []


def test_hosts_have_addresses_on_an_engine_whose_networks_are_small():
    """5.2."""
    plan = replace(PLAN, hosts=tuple(f"algo-{number}" for number in range(1, 14)))
    with job_network(Networks(prefix=28), plan) as addresses:
        assert list(addresses.values()) == [f"172.1.0.{number}" for number in range(2, 15)]


def test_more_hosts_than_an_engines_networks_have_addresses_are_refused():
    """5.2."""
    client = Networks(prefix=30)
    with pytest.raises(UsageError, match="too small for 2 hosts"), job_network(client, PLAN):
        pass
    assert client.there == []


def test_an_engine_that_has_no_addresses_left_says_so():
    client = Networks(taken=100)
    with pytest.raises(UsageError, match="docker network prune"), job_network(client, PLAN):
        pass
    assert client.there == []


def test_a_network_that_a_container_is_just_leaving_is_removed_later():
    client = Networks(busy=[docker.errors.APIError("network has active endpoints")] * 2)
    client.create("byoc-train-job", {"Config": None})
    assert remove_networks(client, ["job=one"]) == 1
    assert client.there == []


def test_a_network_that_stays_does_not_change_how_the_job_ended(monkeypatch):
    monkeypatch.setattr(docker_network, "REMOVAL_SECONDS", 0.1)
    client = Networks()
    with job_network(client, PLAN):
        client.busy = [docker.errors.APIError("network has active endpoints")] * 1000
    assert len(client.there) == 1

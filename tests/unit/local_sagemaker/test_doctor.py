"""What `byoc doctor` says of a Docker engine, of this machine, and of what killed runs left."""

import pytest
from local_sagemaker.doctor import examine
from local_sagemaker.doctor_engine import engine_checks, leftovers, leftovers_of_checks
from local_sagemaker.engines import FoundContainer

INFO = {
    "ServerVersion": "28.2.2",
    "OSType": "linux",
    "Architecture": "x86_64",
    "SystemTime": "1970-01-02T00:00:00.123456789Z",
    "SecurityOptions": ["name=seccomp,profile=default"],
    "Runtimes": {"runc": {}},
}
NOW = 86400.0


def checks(devices=(), now=NOW, **changed):
    return {check.name: check for check in engine_checks({**INFO, **changed}, now, devices)}


def test_an_engine_that_is_as_it_should_be_has_nothing_to_do():
    found = checks()
    assert all(check.ok for check in found.values())
    assert found["docker root"].found == "the engine runs as root"
    assert checks(SecurityOptions=["name=rootless"])["docker root"].found == "rootless"


@pytest.mark.parametrize(
    ("version", "ok"), [("19.03.15", False), ("20.10.24+dfsg1", True), ("28.2.2", True), ("", False)]
)
def test_an_old_engine_is_told(version, ok):
    assert checks(ServerVersion=version)["docker version"].ok is ok


def test_another_platform_than_sagemakers_is_told():
    """0.7."""
    check = checks(Architecture="aarch64")["docker platform"]
    assert not check.ok
    assert "--platform linux/amd64" in check.next_step


@pytest.mark.parametrize(("now", "ok"), [(NOW + 4, True), (NOW - 4, True), (NOW + 3600, False), (NOW - 3600, False)])
def test_a_clock_that_stood_still_is_told(now, ok):
    assert checks(now=now)["docker clock"].ok is ok


def test_gpus_that_containers_cannot_have_are_told():
    assert "docker gpu" not in checks()
    assert not checks(("0",))["docker gpu"].ok
    assert checks(("0",), Runtimes={"nvidia": {}})["docker gpu"].ok


def test_a_full_disk_of_docker_is_told_where_it_is_this_machines(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 30}))
    assert not checks(DockerRootDir=str(tmp_path))["docker disk"].ok
    assert "docker disk" not in checks(DockerRootDir="/absent/of/a/virtual/machine")


def test_containers_that_no_longer_run_are_left_by_killed_runs():
    running = FoundContainer("a", {}, running=True, exit_code=None, port=None)
    ended = FoundContainer("b", {}, running=False, exit_code=137, port=None)
    assert leftovers([running]).ok
    check = leftovers([running, ended])
    assert (check.ok, check.found[:2]) == (False, "1 ")
    assert "docker container prune --filter label=sagemaker-byoc.session" in check.next_step


def test_this_machine_is_looked_at_as_a_whole(free_listener):
    found = {check.name: check for check in examine(free_listener)}
    assert {"python", "disk", "shm", "gpu", f"port {free_listener}", "docker engine"} <= set(found)
    assert not found[f"port {free_listener}"].ok
    assert all(check.next_step for check in found.values() if not check.ok)


@pytest.mark.parametrize(("removed", "found"), [(0, "none"), (3, "3 removed")])
def test_what_a_killed_check_has_left_is_removed_and_told(removed, found):
    """22.3: nothing is left for the user to do."""
    check = leftovers_of_checks(removed)
    assert (check.ok, check.found) == (True, found)

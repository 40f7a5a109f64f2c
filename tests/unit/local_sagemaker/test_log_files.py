"""Which logs a resource has, and how they are shown: whole, their ends, and what is added."""

import io

import pytest
from local_sagemaker.errors import UsageError
from local_sagemaker.log_files import CHUNK_BYTES, Follower, find_logs


@pytest.fixture
def hosts(tmp_path):
    """Logs of two hosts, as a job has them beside the common one."""
    for host in ("algo-1", "algo-2"):
        (tmp_path / "hosts" / host).mkdir(parents=True)
        (tmp_path / "hosts" / host / "logs.txt").write_text(f"one of {host}\ntwo of {host}\n")
    return tmp_path


def shown(directory, host=None, tail=None):
    output = io.BytesIO()
    Follower(directory, host, output, tail).finish()
    return output.getvalue().decode()


def test_a_common_log_is_shown_as_it_is(hosts):
    (hosts / "logs.txt").write_bytes(b"algo-1 | one\nalgo-2 | no end")
    assert shown(hosts) == "algo-1 | one\nalgo-2 | no end"


def test_several_logs_stand_behind_the_names_of_their_hosts(hosts):
    (hosts / "hosts/algo-2/logs.txt").write_text("begun")
    assert shown(hosts).splitlines() == ["algo-1 | one of algo-1", "algo-1 | two of algo-1", "algo-2 | begun"]


def test_one_host_can_be_chosen(hosts):
    (hosts / "logs.txt").write_text("all\n")
    assert shown(hosts, "algo-2") == "one of algo-2\ntwo of algo-2\n"


def test_a_host_without_a_log_is_told_who_has_one(hosts):
    with pytest.raises(UsageError, match=r"no log of algo-3(.|\n)*algo-1, algo-2"):
        find_logs(hosts, "algo-3")


def test_the_only_host_of_a_job_has_the_common_log(tmp_path):
    (tmp_path / "logs.txt").write_text("all\n")
    assert shown(tmp_path, "algo-1") == "all\n"


def test_logs_of_an_endpoints_instances_are_found_by_variant_and_instance(tmp_path):
    for variant in ("blue", "green"):
        (tmp_path / "logs" / variant).mkdir(parents=True)
        (tmp_path / "logs" / variant / "i-1.log").write_text(f"{variant}\n")
    assert shown(tmp_path).splitlines() == ["blue/i-1 | blue", "green/i-1 | green"]
    assert shown(tmp_path, "green") == "green\n"
    assert shown(tmp_path, "blue/i-1") == "blue\n"


@pytest.mark.parametrize("ending", ["", "\n"])
@pytest.mark.parametrize(("tail", "first"), [(0, None), (1, 49_999), (2, 49_998), (30_000, 20_000), (60_000, 0)])
def test_the_last_lines_of_a_log_are_found_from_its_end(tmp_path, tail, first, ending):
    lines = [f"line {number:040d}" for number in range(50_000)]
    (tmp_path / "logs.txt").write_text("\n".join(lines) + ending)
    assert (tmp_path / "logs.txt").stat().st_size > 2 * CHUNK_BYTES
    assert shown(tmp_path, tail=tail) == ("" if first is None else "\n".join(lines[first:]) + ending)


def test_what_is_added_is_shown_once_and_logs_that_appear_too(hosts):
    output = io.BytesIO()
    follower = Follower(hosts, None, output, tail=1)
    turns = iter(range(4))

    def has_ended():
        turn = next(turns)
        if turn == 1:
            with (hosts / "hosts/algo-1/logs.txt").open("a") as log:
                log.write("three of alg")
        elif turn == 2:
            with (hosts / "hosts/algo-1/logs.txt").open("a") as log:
                log.write("o-1\n")
            (hosts / "hosts/algo-10").mkdir()
            (hosts / "hosts/algo-10/logs.txt").write_text("new")
        return turn == 3

    follower.follow(has_ended)
    assert sorted(output.getvalue().decode().splitlines()) == [
        "algo-1 | three of algo-1",
        "algo-1 | two of algo-1",
        "algo-10 | new",
        "algo-2 | two of algo-2",
    ]

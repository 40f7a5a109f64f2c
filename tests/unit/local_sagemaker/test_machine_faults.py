"""What the machine refuses is told in words, and a fault of ours is not hidden by them."""

import errno
import os

import pytest
from docker.errors import APIError
from local_sagemaker.errors import EngineMissingError, UsageError
from local_sagemaker.machine_faults import explain
from requests.exceptions import ConnectionError as ConnectionLost


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG])
def test_what_the_file_system_refuses_names_the_file_and_the_reason(number):
    explained = explain(OSError(number, os.strerror(number), "/home/me/digits/.byoc/jobs/one"))
    assert isinstance(explained, UsageError)
    assert explained.happened == f"/home/me/digits/.byoc/jobs/one cannot be read or written: {os.strerror(number)}"


def test_a_project_that_went_away_is_told():
    with pytest.raises(FileNotFoundError) as missing:
        open("/nowhere/.byoc/jobs/one/logs.txt")  # noqa: SIM115, PTH123
    assert explain(missing.value).happened == "/nowhere/.byoc/jobs/one/logs.txt is gone"


def test_an_engine_that_went_away_is_told():
    assert isinstance(explain(ConnectionLost("reset")), EngineMissingError)


def test_what_is_no_reference_of_an_image_is_the_users_mistake_and_not_the_engines():
    explained = explain(APIError("400 Client Error: invalid reference format: repository name must be lowercase"))
    assert isinstance(explained, UsageError)
    assert explained.next_step == "write NAME:TAG, in small letters"


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "/etc/x"), KeyError("x"), OSError("x")])
def test_what_may_be_our_fault_is_not_explained_away(error):
    assert explain(error) is None

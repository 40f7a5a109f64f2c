"""Endpoints with the process engine and the real runtime."""

import pytest
from local_sagemaker.engines import ProcessEngine, free_port
from local_sagemaker.errors import JobFailedError, TimedOutError, UsageError
from local_sagemaker.hosting.endpoint import plan_container, plan_endpoint, running_endpoint, wait_until_ready

from tests.support.waiting import wait_until

ECHO = """
    def model_fn(model_dir):
        return "model"
    def transform_fn(model, body, content_type, accept):
        return body, content_type
"""


@pytest.fixture
def plan(make_project, tmp_path):
    def make(inference, **options):
        (tmp_path / "model").mkdir()
        root = make_project(inference=inference)
        return plan_endpoint(tmp_path / "work", tmp_path / "model", "image", code=root / "code", **options)

    return make


def test_an_endpoint_answers_with_the_bytes_it_was_sent(plan):
    with running_endpoint(plan(ECHO), ProcessEngine()) as endpoint:
        body = bytes(range(256))
        reply = endpoint.invoke(body, "application/octet-stream", "application/octet-stream")
        assert (reply.status, reply.body) == (200, body)
        url = endpoint.url
    with pytest.raises(UsageError, match="cannot be reached"):
        type(endpoint)(url, endpoint.running, endpoint.pump).invoke(b"{}")


def test_nothing_of_an_endpoint_is_left_when_it_ends(plan):
    made = plan(ECHO)
    with running_endpoint(made, ProcessEngine()):
        assert made.directory.exists()
    assert not made.directory.exists()


def test_a_server_that_dies_fails_at_once_with_its_last_lines(plan):
    made = plan(ECHO, environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "many"})
    with pytest.raises(JobFailedError, match="exit code 64") as failure, running_endpoint(made, ProcessEngine()):
        pass
    assert "SAGEMAKER_MODEL_SERVER_WORKERS" in str(failure.value)


def test_a_model_that_does_not_load_times_out_with_the_log(plan, monkeypatch):
    def wait_once_it_has_said_so(endpoint, *limits):
        wait_until(lambda: "weights are missing" in endpoint.last_lines(), "the reason in its log")
        wait_until_ready(endpoint, *limits)

    monkeypatch.setattr("local_sagemaker.hosting.endpoint.wait_until_ready", wait_once_it_has_said_so)
    made = plan('def model_fn(model_dir):\n    raise RuntimeError("weights are missing")\n', startup_seconds=1)
    with pytest.raises(TimedOutError) as failure, running_endpoint(made, ProcessEngine()):
        pass
    assert "weights are missing" in str(failure.value)
    assert failure.value.exit_code == 5


def test_the_model_is_mounted_read_only(plan):
    """Contract: a hosted model's directory is read-only."""
    mounts = {mount.target: mount.read_only for mount in plan_container(plan(ECHO)).mounts}
    assert mounts["/opt/ml/model"] is True


def test_a_taken_port_is_refused_before_anything_starts(plan, free_listener):
    with (
        pytest.raises(UsageError, match="cannot be used"),
        running_endpoint(plan(ECHO, port=free_listener), ProcessEngine()),
    ):
        pass


def test_port_zero_is_any_free_port():
    assert free_port(0) > 0


def test_absent_model_data_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="there is no"):
        plan_endpoint(tmp_path, tmp_path / "absent.tar.gz", "image")

"""How a container ended is known from the engine alone, also when the engine is away for a while."""

from types import SimpleNamespace

import docker.errors
import pytest
from local_sagemaker.engines import docker_container, docker_log
from local_sagemaker.engines.docker_container import DockerContainer, remove_container
from local_sagemaker.errors import EngineMissingError
from local_sagemaker.training.hosts import HostsWatch, Patience
from requests.exceptions import ConnectionError as ConnectionLost
from requests.exceptions import ReadTimeout
from urllib3.exceptions import ProtocolError


class Container:
    """Ends as it is told: each answer is an exit code, or what the engine's client raises."""

    name = "byoc-train-job"

    def __init__(self, *answers):
        self._answers = list(answers)

    def wait(self, timeout=None):
        return {"StatusCode": self._answer()}

    def remove(self, force, v):
        self._answer()

    def _answer(self):
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def ended(monkeypatch):
    monkeypatch.setattr(docker_container, "ENGINE_PAUSE_SECONDS", 0.01)
    settings = {"Ports": {}, "Networks": {}}
    return lambda *answers: DockerContainer(Container(*answers), iter(()), 8080, settings)


def test_an_engine_that_is_started_again_tells_how_the_container_ended(ended):
    assert ended(ConnectionLost("reset"), docker.errors.APIError("starting"), 3).wait(60) == 3


def test_a_container_that_another_program_removed_was_killed(ended):
    assert ended(docker.errors.NotFound("no such container")).wait(60) == 137


@pytest.fixture
def soon_given_up(monkeypatch):
    """An engine that does not answer."""
    monkeypatch.setattr(docker_container, "ENGINE_SECONDS", 0.2)


@pytest.mark.usefixtures("soon_given_up")
def test_nobody_says_how_a_container_ended_whose_engine_stays_away(ended):
    with pytest.raises(EngineMissingError, match=r"has not answered for 0\.2 s"):
        ended(ConnectionLost("refused")).wait(60)


@pytest.mark.usefixtures("soon_given_up")
def test_a_job_whose_engine_stays_away_is_no_longer_waited_for(ended):
    running = {"algo-1": ended(ConnectionLost("refused"))}
    watch = HostsWatch(running, Patience(max_runtime=600, stop_grace=1, after_failure=1), lambda _: None)
    with pytest.raises(EngineMissingError):
        watch.wait()


class Logged(Container):
    """Has written both streams; the engine breaks off after some of it, and once more when it is asked again."""

    def __init__(self):
        super().__init__(ConnectionLost("reset"), 0)
        self._breaks = [ConnectionLost("starting"), None]

    def attached(self):
        yield b"one ", b"warn "
        yield b"two ", None
        raise ProtocolError("Connection broken")

    def logs(self, stdout, stderr, stream, follow):
        assert stdout != stderr
        if self._breaks and (broken := self._breaks.pop()) is not None:
            raise broken
        yield from (b"one two th", b"ree") if stdout else (b"warn ", b"ing")


def test_a_log_goes_on_where_it_was_when_the_engine_is_started_again(monkeypatch):
    monkeypatch.setattr(docker_container, "ENGINE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(docker_log, "ENGINE_PAUSE_SECONDS", 0.01)
    logged = Logged()
    running = DockerContainer(logged, logged.attached(), 8080, {"Ports": {}, "Networks": {}})
    written = {"stdout": b"", "stderr": b""}
    for chunk in running.logs():
        written[chunk.stream] += chunk.data
    assert written == {"stdout": b"one two three", "stderr": b"warn ing"}
    assert logged._breaks == []


def test_an_engine_that_was_away_long_ago_may_be_away_again(monkeypatch):
    monkeypatch.setattr(docker_container, "ENGINE_SECONDS", 30)
    now = [0.0]

    class OnceMore(Container):
        def wait(self, timeout=None):
            now[0] += 3600
            return super().wait(timeout)

    monkeypatch.setattr(docker_container, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    container = OnceMore(ConnectionLost("reset"), ConnectionLost("reset"), 3)
    assert DockerContainer(container, iter(()), 8080, {"Ports": {}, "Networks": {}}).wait(60) == 3


@pytest.mark.parametrize("busy", [docker.errors.APIError("device or resource busy"), ReadTimeout("read timed out")])
def test_what_is_busy_for_a_moment_is_removed_later(monkeypatch, busy):
    monkeypatch.setattr(docker_container, "ENGINE_PAUSE_SECONDS", 0.01)
    container = Container(busy, busy, None)
    remove_container(container)
    assert container._answers == [None]


def test_what_was_removed_meanwhile_is_gone(monkeypatch):
    monkeypatch.setattr(docker_container, "ENGINE_PAUSE_SECONDS", 0.01)
    remove_container(Container(docker.errors.APIError("busy"), docker.errors.NotFound("no such container")))


def test_a_container_that_stays_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(docker_container, "ENGINE_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(docker_container, "REMOVAL_SECONDS", 0.1)
    with pytest.raises(EngineMissingError, match="docker rm --force byoc-train-job"):
        remove_container(Container(docker.errors.APIError("device or resource busy")))

"""Fixtures for every test, the flags that forbid leaving anything out, and the summary of what was left out."""

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import places
from tests.support.opt_ml import OptMl
from tests.support.serving import Endpoint
from tests.support.training import PLATFORM_PREFIXES, RunningJob, TrainRun, run_train

# What a developer sets for the tests themselves.
KEPT = frozenset({"BYOC_TEST_IMAGE", "BYOC_TEST_HOROVOD_IMAGE"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two flags for machines that must leave nothing out."""
    parser.addoption("--require-docker", action="store_true", help="tests that need Docker fail when no engine answers")
    parser.addoption("--require-nginx", action="store_true", help="tests that need nginx fail when it is not installed")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers that say what a test needs from the machine; no example has to be quick on it."""
    hypothesis.settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("any machine")
    config.addinivalue_line("markers", "docker: needs a Docker Engine that answers")
    config.addinivalue_line("markers", "nginx: needs nginx on PATH")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, or let fail where that is asked for, what this machine cannot run."""
    for need, missing in (("docker", _no_docker), ("nginx", _no_nginx)):
        needing = [item for item in items if item.get_closest_marker(need)]
        reason = missing() if needing else None
        if reason is not None and not config.getoption(f"--require-{need}"):
            for item in needing:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What one process runs after the other: all tests of the image, which is built once; else those of one file."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            # Two of them at once would train on the same two cores, and networks that wait for each other crawl then.
            return "tests/image" if nodeid.startswith("tests/image/") else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out on this machine, how much of it, and why."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("left out on this machine")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"left out on this machine: {count} tests: {reason}")


def _no_docker() -> str | None:
    if shutil.which("docker") is None:
        return "no docker command on PATH"
    answer = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, check=False)
    return None if answer.returncode == 0 else "no Docker Engine answers"


def _no_nginx() -> str | None:
    return None if shutil.which("nginx") else "nginx is not installed"


@pytest.fixture(autouse=True, scope="session")
def _scrubbed_environment() -> Iterator[None]:
    """No test sees what the platform, a toolkit or a person left in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PLATFORM_PREFIXES) and name not in KEPT]:
            patch.delenv(name)
        # Clients would ask a proxy for the servers of the tests; what is downloaded goes its way.
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"])))
        yield


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """A shell that starts the tests in the background has them ignore Ctrl-C, and every process of theirs too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def program() -> Callable[[str], Path]:
    """The folder of a user program by its name."""
    return places.program


@pytest.fixture
def opt_ml(tmp_path: Path) -> OptMl:
    """A fresh /opt/ml with the platform's three files and nothing else."""
    return OptMl.make(tmp_path / "opt_ml")


@pytest.fixture
def train(opt_ml: OptMl) -> Callable[..., TrainRun]:
    """Run the user program of this name on ``opt_ml`` to its end."""

    def run(name: str, env: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()) -> TrainRun:
        opt_ml.code(name)
        return run_train(opt_ml, env, prefix=prefix)

    return run


@pytest.fixture
def job(opt_ml: OptMl, tmp_path: Path) -> Callable[..., AbstractContextManager[RunningJob]]:
    """Start the user program of this name on ``opt_ml`` and watch it."""

    def start(name: str, env: Mapping[str, str] | None = None) -> RunningJob:
        opt_ml.code(name)
        return RunningJob(opt_ml, tmp_path / "train.log", env)

    return start


FRONTS = [
    pytest.param("on", id="nginx", marks=pytest.mark.nginx),
    pytest.param("off", id="gunicorn-alone"),
]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """The value of BYOC_NGINX: each promise holds with nginx in front and without."""
    value: str = request.param
    return value


@pytest.fixture
def serve(opt_ml: OptMl, tmp_path: Path, front: str) -> Callable[..., AbstractContextManager[Endpoint]]:
    """Start serving the user program of this name, with nginx and without."""

    def start(name: str | None, env: Mapping[str, str] | None = None, starter: Sequence[str] = ()) -> Endpoint:
        if name is not None:
            opt_ml.model_code(name)
        return Endpoint(opt_ml, tmp_path / "serve.log", {"BYOC_NGINX": front, **(env or {})}, starter)

    return start


@pytest.fixture(scope="session", params=FRONTS)
def echoing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    """One endpoint, for tests that only ask: its model answers what it is sent."""
    folder = tmp_path_factory.mktemp("echoing")
    tree = OptMl.make(folder / "opt_ml")
    tree.model_code("echoes")
    with Endpoint(tree, folder / "serve.log", {"BYOC_NGINX": request.param}) as endpoint:
        yield endpoint.wait_until_ready()


_LINE = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")


def alarming_lines(log: str) -> list[str]:
    """The lines of a log that cry for attention."""
    return [line for line in log.splitlines() if _LINE.search(line)]

"""Settings: defaults, what is refused, and the cores a container may use."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving.settings import ServeSettings, variable_names
from sagemaker_byoc.settings import TrainSettings, available_cpus


def test_defaults_are_the_documented_ones() -> None:
    """1.12, 14.1, 22.1."""
    serve = ServeSettings.read({})
    assert (serve.port, serve.timeout, serve.default_accept, serve.program) == (
        8080,
        60,
        "application/json",
        "inference.py",
    )
    assert TrainSettings.read({}).stop_grace_seconds == 110
    assert str(serve.paths.base) == "/opt/ml"


@given(st.sampled_from(variable_names()), st.text(max_size=20))
def test_any_value_is_taken_or_refused_by_name(variable: str, value: str) -> None:
    """Exit 64, never a traceback."""
    try:
        ServeSettings.read({variable: value})
    except PlatformInputError as error:
        assert variable in str(error)  # noqa: PT017 - being taken is as right
        assert repr(value.strip()).lower() in str(error).lower()  # noqa: PT017 - being taken is as right


@given(st.sampled_from(TrainSettings.VARIABLES), st.text(max_size=20))
def test_any_value_for_training_is_taken_or_refused_by_name(variable: str, value: str) -> None:
    """The same for jobs."""
    try:
        TrainSettings.read({variable: value})
    except PlatformInputError as error:
        assert variable in str(error)  # noqa: PT017 - being taken is as right


@pytest.mark.parametrize("value", ["0_", "-MultiRecord", "single record"])
def test_a_batch_strategy_that_is_none_is_refused_as_it_was_written(value: str) -> None:
    """15.34."""
    with pytest.raises(PlatformInputError, match=f"SAGEMAKER_BATCH_STRATEGY is '{value.lower()}'"):
        ServeSettings.read({"SAGEMAKER_BATCH_STRATEGY": value})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "1e10"),
        ("BYOC_MODEL_LOAD_TIMEOUT", "nan"),
        ("BYOC_MAX_REQUEST_MB", "10000000000000"),
        ("BYOC_THREADS", "9" * 5000),
        ("SAGEMAKER_SESSIONS_EXPIRATION", "1000000000000000"),
    ],
)
def test_a_number_that_nothing_could_hold_is_refused_with_the_most_that_is_taken(variable: str, value: str) -> None:
    """13.3: nginx would not start, locks would raise."""
    with pytest.raises(PlatformInputError, match=rf"{variable} is .*and at most (2147483647|1000000000)"):
        ServeSettings.read({variable: value})


@pytest.mark.parametrize("variable", ["SAGEMAKER_MODEL_SERVER_TIMEOUT", "BYOC_STOP_GRACE_SECONDS"])
def test_empty_value_is_the_default(variable: str) -> None:
    """A variable that is set to nothing says nothing."""
    assert ServeSettings.read({variable: ""}).timeout == 60
    assert TrainSettings.read({variable: ""}).stop_grace_seconds == 110


def test_names_of_the_public_sample_are_understood_behind_the_toolkits() -> None:
    """22.1: MODEL_SERVER_WORKERS is the sample's; SAGEMAKER_... goes first."""
    assert ServeSettings.read({"MODEL_SERVER_WORKERS": "3"}).workers == 3
    both = {"MODEL_SERVER_WORKERS": "3", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    assert ServeSettings.read(both).workers == 2


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "garbage"}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
    ids=["v2 half a core", "v1 one core", "unreadable", "v2 no limit", "v1 no limit", "no cgroup"],
)
def test_cores_are_the_containers_not_the_hosts(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    """20.2: several copies share a machine."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == (cores or available_cpus(tmp_path / "nowhere"))

"""What pip has to install, judged without starting it."""

import sys
import sysconfig
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from sagemaker_byoc import packages, requirements
from sagemaker_byoc.child import Outcome
from sagemaker_byoc.errors import PlatformInputError, Stopped
from sagemaker_byoc.packages import InstallPlan, explain_failure, install, plan_packages

INSTALLED = {"alpha": "1.2.0", "beta_two": "2.0rc1", "Gamma.Three": "3.1.4+cpu", "delta": "0.9"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder that holds a few distributions, beside the real ones."""
    folder = tmp_path / "site"
    for name, version in INSTALLED.items():
        info = folder / f"{name.replace('.', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        needs = "Provides-Extra: more\nProvides-Extra: much\nRequires-Dist: alpha>=1; extra == 'more'\n"
        needs += "Requires-Dist: nowhere; extra == 'much'\n" if name == "delta" else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def missing(folder: Path, text: str) -> tuple[str, ...]:
    (folder / "requirements.txt").write_text(text)
    plan = plan_packages(folder, with_setup=True)
    return plan.missing if plan else ()


@pytest.mark.parametrize(
    "line",
    [
        *("alpha", "Alpha", "alpha==1.2", "alpha == 1.2.0", "alpha>=1,<2", "alpha>=1.2.0", "alpha!=1.1", "alpha~=1.1"),
        *("beta-two", "beta.two>=2.0rc1", "beta_two==2.0rc1", "gamma-three==3.1.4", "gamma.three>=3", "alpha==1.*"),
        *("alpha  # why", "# only a comment", "", "  ", "nowhere; python_version < '3'", "alpha; python_version > '3'"),
        *("--index-url https://example.invalid/simple", "-i https://example.invalid", "--pre", "--find-links wheels"),
        *("delta[more]", "alpha==1.2.0 --hash=sha256:00", "alpha \\\n  ==1.2.0", "alpha==1.2.0 \\\n --hash=sha256:00"),
    ],
)
def test_requirement_that_is_met_needs_nothing(site: Path, tmp_path: Path, line: str) -> None:
    """12.1."""
    assert missing(tmp_path, line) == ()


@pytest.mark.parametrize(
    "line",
    [
        *(
            "nowhere",
            "alpha==1.3",
            "alpha>=1.2.1",
            "alpha<1.2",
            "alpha>1.2",
            "alpha!=1.2.0",
            "delta~=1.0",
            "delta[much]",
        ),
        *("beta-two<2.0b1", "gamma-three==3.1.5", "nowhere; python_version > '3'", "alpha==2.*", "not a requirement"),
        *("./package", "-e .", "git+https://example.invalid/x.git", "alpha @ https://example.invalid/alpha.whl"),
        *("-c constraints.txt", "${ALPHA}", "-r does-not-exist.txt"),
    ],
)
def test_requirement_that_is_not_met_or_only_pip_can_judge_is_pips(site: Path, tmp_path: Path, line: str) -> None:
    """12.1."""
    assert len(missing(tmp_path, line)) == 1


def test_included_files_are_read(site: Path, tmp_path: Path) -> None:
    """12.1: as pip reads them, beside the file that names them; a circle is no trap."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("alpha\nnowhere\n-r ../requirements.txt\n")
    assert missing(tmp_path, "-r more/base.txt\n--requirement=more/base.txt\n") == ("nowhere", "nowhere")


@given(st.sampled_from(["==", "!=", ">=", "<=", ">", "<"]), st.data())
def test_plain_versions_are_compared_as_packaging_compares_them(operator: str, data: st.DataObject) -> None:
    """The fast way and the library agree."""
    release = st.lists(st.integers(0, 12), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
    have, want = data.draw(release) + data.draw(st.sampled_from(["", "+cpu", "+cu130"])), data.draw(release)
    line = f"alpha{operator}{want}"
    assert requirements._is_met(line, {"alpha": have}) == SpecifierSet(operator + want).contains(have)


def test_no_file_needs_nothing(tmp_path: Path) -> None:
    """12.1."""
    assert plan_packages(tmp_path, with_setup=True) is None


def test_plan_is_one_command_that_asks_nothing(site: Path, tmp_path: Path) -> None:
    """12.1: this interpreter's pip."""
    (tmp_path / "requirements.txt").write_text("nowhere\n")
    plan = plan_packages(tmp_path, with_setup=True)
    assert plan is not None
    assert plan.command[:4] == (sys.executable, "-m", "pip", "install")
    assert "--no-input" in plan.command
    assert plan.command[-2:] == ("-r", str(tmp_path / "requirements.txt"))
    assert plan.place.python_path is None


def test_package_folder_that_cannot_be_written_is_left_alone(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12.1, 18.6: any user, a read-only image."""
    monkeypatch.setattr(packages, "_is_writable", lambda folder: folder != sysconfig.get_path("purelib"))
    (tmp_path / "requirements.txt").write_text("nowhere\n")
    plan = plan_packages(tmp_path, with_setup=True)
    assert plan is not None
    prefix = plan.command[plan.command.index("--prefix") + 1]
    assert plan.place.python_path is not None
    assert plan.place.python_path.startswith(prefix + "/")
    assert plan.place.python_path.endswith("-packages")


def test_package_folder_that_can_hold_compiled_modules_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    """13.11: a tmpfs of Docker's is mounted noexec."""
    monkeypatch.setattr(packages, "_is_writable", lambda folder: folder in ("/tmp", "/dev/shm"))
    monkeypatch.setattr(packages, "_temporary_folder", lambda: "/tmp")
    for noexec, chosen in [(("/tmp",), "/dev/shm"), ((), "/tmp"), (("/tmp", "/dev/shm"), "/tmp")]:
        monkeypatch.setattr(packages, "_is_noexec", noexec.__contains__)
        prefix = packages.find_place().prefix
        assert prefix is not None
        prefix.rmdir()
        assert str(prefix.parent) == chosen


def test_nowhere_to_install_to_is_told_with_what_is_missing(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """13.11: which folders were tried, and what to do."""
    monkeypatch.setattr(packages, "_is_writable", lambda _: False)
    (tmp_path / "requirements.txt").write_text("alpha\nnowhere\n")
    with pytest.raises(PlatformInputError, match=r"nowhere cannot be installed.*tmpfs on /tmp"):
        plan_packages(tmp_path, with_setup=False)


def test_replaced_package_of_the_image_is_told(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12.1: whoever needs it as it was fails later and elsewhere."""
    plan = InstallPlan(tmp_path / "requirements.txt", ("alpha==1.3",), ("pip",))

    def run(_plan: InstallPlan) -> Outcome:
        (site / "alpha-1.2.0.dist-info").rename(site / "alpha-1.3.dist-info")
        return Outcome(0, b"")

    install(plan, run)
    told = capsys.readouterr().err
    assert "installing alpha==1.3 (" in told
    assert "has replaced packages of the image" in told
    assert "alpha 1.2.0 by 1.3" in told


def test_stop_meanwhile_is_a_stop_and_no_failure_of_pips(tmp_path: Path) -> None:
    """13.2, 1.6."""
    plan = InstallPlan(tmp_path / "requirements.txt", ("nowhere",), ("pip",))
    with pytest.raises(Stopped):
        install(plan, lambda _: Outcome(143, b"ERROR: Operation cancelled by user", stopped=True))


def test_package_is_installed_with_its_requirements(site: Path, tmp_path: Path) -> None:
    """12.1: a folder with setup.py."""
    (tmp_path / "setup.py").write_text("")
    (tmp_path / "requirements.txt").write_text("nowhere\n")
    plan = plan_packages(tmp_path, with_setup=True)
    assert plan is not None
    assert plan.command[-1] == str(tmp_path)
    assert str(tmp_path / "requirements.txt") in plan.command


def test_password_of_an_index_is_not_shown(tmp_path: Path) -> None:
    """No secret is ever logged."""
    assert missing(tmp_path, "git+https://me:pa55word@example.invalid/x.git") == (
        "git+https://***@example.invalid/x.git",
    )


def test_requirements_that_are_met_cost_milliseconds(site: Path, tmp_path: Path) -> None:
    """12.1: what is there already costs a job nothing."""
    (tmp_path / "requirements.txt").write_text("alpha>=1,<2\ndelta==0.9\nalpha\n" * 20)
    assert plan_packages(tmp_path, with_setup=True) is None
    seconds = []
    for _ in range(10):
        started = time.process_time()
        plan_packages(tmp_path, with_setup=True)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.05


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("NewConnectionError: Failed to establish a new connection: [Errno -3]", "network isolation"),
        ("ERROR: No matching distribution found for nowhere==9", "nowhere==9 could not be installed"),
        ("/usr/bin/python3: No module named pip", "no pip"),
        ("The user requested a==2\nThe user requested (constraint) a==1\nERROR: ResolutionImpossible: x", "a==2, a==1"),
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "no space left in"),
        ("ERROR: [Errno 30] Read-only file system: '/opt/venv/bin/flask'", "the version that it has"),
        ("x\nERROR: Invalid requirement: 'a b'\n", "Invalid requirement"),
        ("", "exit code 1"),
        ("ERROR: Could not reach https://me:pa55word@example.invalid/simple", "https://***@"),
    ],
)
def test_failure_says_what_and_what_to_do(output: str, expected: str) -> None:
    """4.11, 12.1."""
    text = explain_failure(InstallPlan(Path("/c/requirements.txt"), ("nowhere==9",), ("pip",)), 1, output)
    assert expected in text
    assert text.startswith("/c/requirements.txt: ")
    assert "pa55word" not in text


def test_environment_is_the_jobs_without_an_index_of_its_own() -> None:
    """12.4: CA_REPOSITORY_ARN is asked only where it is set."""
    plan = InstallPlan(Path("r"), ("x",), ("pip",))
    assert plan.environ({"A": "b", "PIP_RETRIES": "7"}) == {"A": "b", "PIP_RETRIES": "7"}

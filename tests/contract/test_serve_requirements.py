"""A requirements.txt that travels with the model: installed once, before anything is served."""

import os
import socket
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.http import Reply, request
from tests.support.opt_ml import OptMl
from tests.support.places import CONTAINER
from tests.support.serving import Endpoint
from tests.support.wheels import wheel

Serve = Callable[..., AbstractContextManager[Endpoint]]
REQUIREMENTS = "--no-index\n--find-links wheels\ntiny==1.0\nflask  # which the image has\n"


@pytest.fixture
def front() -> str:
    """Packages come before any server."""
    return "off"


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    """An environment whose packages go to a folder of this test, as users may have it with pip's own variables."""
    prefix = str(tmp_path / "packages")
    site = sysconfig.get_path("purelib", "posix_prefix", vars={"base": prefix, "platbase": prefix})
    Path(site).mkdir(parents=True)
    return {"PIP_PREFIX": prefix, "PYTHONPATH": os.pathsep.join([str(CONTAINER), site])}


def bring(folder: Path, requirements: str = REQUIREMENTS, version: str = "1.0", value: int = 42) -> None:
    """Put a requirements.txt and a wheel into a code folder."""
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    (folder / "wheels" / f"tiny-{version}-py3-none-any.whl").write_bytes(wheel("tiny", version, value))


def test_package_beside_the_code_is_there_before_any_worker(serve: Serve, opt_ml: OptMl, apart: dict[str, str]) -> None:
    """22.2, 13.5: relative to the file, once for all workers, and the log says how long it took."""
    bring(opt_ml.base / "model" / "code")
    with serve("uses_a_package", {**apart, "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"7").json == [42, 7]
        assert endpoint.log.count("installing tiny==1.0 (") == 1
        before, _, after = endpoint.log.partition("installed in ")
        assert after.partition(" s ")[0].replace(".", "").isdecimal()
        assert "with 2 workers" in after
        assert "with 2 workers" not in before


@pytest.mark.parametrize("where", ["submitted", "model"])
def test_package_is_installed_from_wherever_the_code_may_lie(
    serve: Serve, opt_ml: OptMl, apart: dict[str, str], where: str
) -> None:
    """22.1: a folder that SAGEMAKER_SUBMIT_DIRECTORY names; the top of a model's archive."""
    folder = opt_ml.base / where
    opt_ml.model_code("uses_a_package")
    (opt_ml.base / "model" / "code").rename(opt_ml.base / "taken")
    folder.mkdir(exist_ok=True)
    (opt_ml.base / "taken" / "inference.py").rename(folder / "inference.py")
    bring(folder)
    with serve(None, {**apart, "SAGEMAKER_SUBMIT_DIRECTORY": str(opt_ml.base / "submitted")}) as endpoint:
        endpoint.wait_until_ready()
        assert endpoint.invoke(b"7").json == [42, 7]


def test_requirements_that_are_met_start_no_pip(serve: Serve, opt_ml: OptMl) -> None:
    """13.10: nothing is looked up, so an endpoint without a network starts as ever."""
    folder = opt_ml.base / "model" / "code"
    folder.mkdir()
    (folder / "requirements.txt").write_text("flask\nnumpy>=1.20  # arrays\n")
    with serve("echoes", {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}) as endpoint:
        assert endpoint.wait_until_ready().invoke(b"[1]").status == 200
        assert "byoc: installing" not in endpoint.log


def test_package_that_cannot_be_had_ends_the_start_with_a_sentence(
    serve: Serve, opt_ml: OptMl, apart: dict[str, str]
) -> None:
    """13.10, 14.8: exit 66, which package, what to do, and no traceback."""
    bring(opt_ml.base / "model" / "code", "no-such-package-anywhere==9.9\n")
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "1"}
    with serve("uses_a_package", {**apart, **nowhere}) as endpoint:
        assert endpoint.wait(60) == 66
        assert "no-such-package-anywhere==9.9 could not be installed" in endpoint.log
        assert "no package index answers" in endpoint.log
        assert "Traceback" not in endpoint.log


def test_installing_can_be_switched_off(serve: Serve, opt_ml: OptMl, apart: dict[str, str]) -> None:
    """14.8: BYOC_INSTALL_REQUIREMENTS."""
    bring(opt_ml.base / "model" / "code")
    with serve("uses_a_package", {**apart, "BYOC_INSTALL_REQUIREMENTS": "off"}) as endpoint:
        endpoint.wait_for_line("No module named 'tiny'. If tiny comes with a package, name the package")
        assert "byoc: installing" not in endpoint.log
        assert endpoint.ping().status == 503


def test_stop_that_comes_while_pip_waits_is_heeded(serve: Serve, opt_ml: OptMl, apart: dict[str, str]) -> None:
    """13.2: the index takes the connection and never answers."""
    bring(opt_ml.base / "model" / "code", "no-such-package-anywhere\n")
    with socket.create_server(("127.0.0.1", 0)) as index:
        where = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        environ = {**apart, "PIP_INDEX_URL": where, "PIP_CONFIG_FILE": "/dev/null", "PIP_TIMEOUT": "300"}
        with serve("uses_a_package", environ) as endpoint:
            connection, _ = index.accept()
            with connection:
                endpoint.terminate()
                assert endpoint.wait(25) == 0
                assert endpoint.family() == []


def _load(endpoint: Endpoint, name: str, folder: Path) -> Reply:
    body = f'{{"model_name": "{name}", "url": "{folder}"}}'.encode()
    return request(endpoint.port, "POST", "/models", body, {"Content-Type": "application/json"})


def _place(tree: OptMl, name: str, program: Mapping[str, str]) -> Path:
    folder = tree.base / "models" / name / "model"
    (folder / "code").mkdir(parents=True)
    for file, text in program.items():
        (folder / "code" / file).write_text(text)
    return folder


def test_model_among_many_brings_its_packages_and_changes_none_of_the_others(
    serve: Serve, opt_ml: OptMl, apart: dict[str, str]
) -> None:
    """15.23, 15.24: one set of packages for all; who wants another version of one that is there is told so."""
    program = "import tiny\ndef model_fn(d): return tiny.VALUE\ndef predict_fn(data, model): return [model, data]\n"
    first, second = (_place(opt_ml, name, {"inference.py": program}) for name in ("first", "second"))
    bring(first / "code")
    bring(second / "code", REQUIREMENTS.replace("1.0", "2.0"), "2.0", 43)
    many = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with serve(None, {**apart, **many}) as endpoint:
        endpoint.wait_until_ready()
        assert _load(endpoint, "first", first).status == 200, endpoint.log
        refused = _load(endpoint, "second", second)
        assert refused.status == 500, refused
        assert "model 'second'" in refused.error["message"]
        assert "tiny==2.0" in refused.error["message"]
        assert "Mend the lines" in refused.error["message"]
        assert str(opt_ml.base) not in refused.error["message"]
        assert f"{second}/code/requirements.txt" in endpoint.log
        for _ in range(8):
            reply = request(endpoint.port, "POST", "/models/first/invoke", b"7", {"Content-Type": "application/json"})
            assert reply.json == [42, 7]

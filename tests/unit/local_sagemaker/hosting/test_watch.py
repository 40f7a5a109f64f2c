"""Code that is edited while it is served."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from local_sagemaker.cli.serve import attend
from local_sagemaker.code_folder import copy_code
from local_sagemaker.engines import ProcessEngine
from local_sagemaker.errors import JobFailedError
from local_sagemaker.hosting.endpoint import plan_endpoint, running_endpoint
from local_sagemaker.hosting.watch import CodeWatch

from tests.support.waiting import wait_until
from tests.unit.local_sagemaker.hosting.fake_engine import FakeEngine

CODE = "def model_fn(model_dir):\n    return {!r}\ndef predict_fn(data, model):\n    return model\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "inference.py").write_text(CODE.format("old"))
    (tmp_path / "model").mkdir()
    return folder


def attend_until_its_end(plan, endpoint):
    with suppress(JobFailedError):
        attend(plan, endpoint, watch=True)


def test_a_change_reaches_the_copy_once(code, tmp_path):
    """13.2."""
    (code / "gone.py").write_text("")
    watch = CodeWatch(code, copy_code(code, tmp_path / "copy"))
    assert not watch.has_changed()
    (code / "gone.py").unlink()
    (code / "inference.py").write_text(CODE.format("another"))
    (code / "__pycache__").mkdir()
    assert watch.has_changed()
    assert not watch.has_changed()
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["inference.py"]


def test_the_images_server_answers_by_new_code_without_a_restart(code, tmp_path):
    """13.2: workers are replaced one by one on SIGHUP."""
    plan = plan_endpoint(tmp_path / "work", tmp_path / "model", "image", code=code)
    with running_endpoint(plan, ProcessEngine()) as endpoint:
        watching = threading.Thread(target=attend_until_its_end, args=(plan, endpoint), daemon=True)
        watching.start()
        assert endpoint.invoke(b"[1]").body == b'"old"'
        (code / "inference.py").write_text(CODE.format("newer"))
        wait_until(lambda: endpoint.invoke(b"[1]").body == b'"newer"', "the new code's answer", 60)
        assert watching.is_alive()


def test_a_server_that_does_not_reload_is_started_again(code, tmp_path):
    """13.2."""
    engine = FakeEngine()
    plan = plan_endpoint(tmp_path / "work", tmp_path / "model", "image", code=code)
    with running_endpoint(plan, engine) as endpoint:
        ended = threading.Thread(target=attend_until_its_end, args=(plan, endpoint), daemon=True)
        ended.start()
        (code / "inference.py").write_text(CODE.format("newer"))
        ended.join(60)
        assert not ended.is_alive()

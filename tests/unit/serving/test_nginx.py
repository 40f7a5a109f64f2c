"""nginx.conf as text, and whether nginx is used at all."""

import re
import shutil
from pathlib import Path

import pytest
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.serving.long_bodies import LONG_BYTES, STALL_SECONDS
from sagemaker_byoc.serving.nginx import find_nginx, render
from sagemaker_byoc.serving.settings import ServeSettings


@pytest.fixture
def _no_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_options: None)


@pytest.mark.usefixtures("_no_nginx")
def test_missing_nginx_is_named_when_it_was_asked_for() -> None:
    """On means on; exit 64 names the setting."""
    with pytest.raises(PlatformInputError, match=r"BYOC_NGINX.*nginx"):
        find_nginx(ServeSettings.read({"BYOC_NGINX": "on"}))


@pytest.mark.usefixtures("_no_nginx")
def test_missing_nginx_is_done_without_when_nobody_asked() -> None:
    """The process engine and small images have none."""
    assert find_nginx(ServeSettings.read({})) is None


def test_off_means_off() -> None:
    """Even where nginx is installed."""
    assert find_nginx(ServeSettings.read({"BYOC_NGINX": "off"})) is None


def test_every_token_is_filled_and_the_settings_are_in_the_text(tmp_path: Path) -> None:
    """14.1, 15.3: port and host from the settings, no limit on the body."""
    settings = ServeSettings.read({"SAGEMAKER_BIND_TO_PORT": "9123", "BYOC_BIND_HOST": "127.0.0.1"})
    text = render(settings, tmp_path)
    assert not re.search(r"@\{", text)
    assert "127.0.0.1:9123" in text
    assert re.search(r"client_max_body_size\s+1100m;", text)
    assert str(tmp_path) in text


def test_long_bodies_are_the_same_to_nginx_and_to_the_workers(tmp_path: Path) -> None:
    """15.3: what is short is kept in memory whole, what is long passed on, and its next piece awaited as long."""
    text = render(ServeSettings.read({}), tmp_path)
    short = re.search(r'"~(\^[^"]+)" "";', text)
    assert short is not None
    assert re.search(short[1], str(LONG_BYTES - 1))
    assert not re.search(short[1], str(LONG_BYTES))
    assert f"client_body_buffer_size {LONG_BYTES};" in text
    assert f"client_body_timeout {STALL_SECONDS}s;" in text


def test_nothing_is_written_outside_the_run_folder(tmp_path: Path) -> None:
    """13.11: only /tmp and /dev/shm are safe, so every temporary path is the run folder's."""
    text = render(ServeSettings.read({}), tmp_path)
    for directive in ("client_body_temp_path", "proxy_temp_path", "pid"):
        assert re.search(rf"{directive}\s+{re.escape(str(tmp_path))}", text), directive

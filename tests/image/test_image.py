"""What the image is and holds."""

import pytest

from tests.support.docker import inspect, run

pytestmark = pytest.mark.docker

CAPABILITIES = "com.amazonaws.sagemaker.capabilities."


def shell(image: str, script: str) -> str:
    """Standard output of a shell script inside the image; asserts that it succeeds."""
    ran = run(image, "/bin/bash", "-c", script)
    assert ran.exit_code == 0, ran.log
    return ran.stdout.decode()


def test_commands_are_in_exec_form(image: str) -> None:
    """0.2: a shell as process 1 would swallow the stop."""
    config = inspect(image)
    for command in (config["Entrypoint"], config["Cmd"]):
        assert command is None or command[:2] != ["/bin/sh", "-c"], command
    assert not any("tini" in word for word in config["Entrypoint"] or [])


def test_labels_name_what_the_platform_may_ask_for(image: str) -> None:
    """0.12: the port, many models, streams in both directions; test_hosting.py holds the image to each."""
    labels = inspect(image)["Labels"] or {}
    told = {name.removeprefix(CAPABILITIES): value for name, value in labels.items() if name.startswith(CAPABILITIES)}
    assert told == {"accept-bind-to-port": "true", "multi-models": "true", "bidirectional-streaming": "true"}


def test_user_is_root(image: str) -> None:
    """0.11."""
    assert inspect(image)["User"] in {"", "root", "0"}


def test_output_is_unbuffered(image: str) -> None:
    """4.7."""
    assert "PYTHONUNBUFFERED=1" in inspect(image)["Env"]


def test_train_and_serve_are_ours_even_with_the_toolkits_beside_them(image: str) -> None:
    """0.1: sagemaker-training brings a console script `train` of its own."""
    found = shell(image, "command -v train serve; type -a -p train").split()
    assert found[:2] == ["/opt/program/train", "/opt/program/serve"]
    assert found[2] == "/opt/program/train"
    assert len(found) > 3, "sagemaker-training's own train should be there, behind ours"


def test_sagemaker_training_can_be_imported(image: str) -> None:
    """12.2: delegated to for what it does well."""
    assert run(image, "python3", "-c", "import sagemaker_training.environment").exit_code == 0


def test_there_is_no_compiler(image: str) -> None:
    """A final image is for running."""
    assert shell(image, "for tool in gcc cc g++ c++ make; do command -v $tool; done; true") == ""


def test_what_the_newest_sdk_drives_the_image_with_is_there(image: str) -> None:
    """12.6: /bin/bash, python3 and pip on PATH."""
    assert "pip" in shell(image, "python3 --version >/dev/null && python3 -m pip --version && pip --version")


def test_a_job_of_the_newest_sdk_runs(image: str) -> None:
    """1.4, 12.6: its entry point is bash, its argument a command line, and `train` is nowhere."""
    ran = run(image, "-c", "chmod +x /tmp && exec python3 -c 'print(6 * 7)'", options=["--entrypoint", "/bin/bash"])
    assert (ran.exit_code, ran.stdout) == (0, b"42\n")


def test_files_can_be_read_by_everyone(image: str) -> None:
    """18.6: serverless inference may not be root."""
    program = (
        "/opt/program $(python3 -c 'import sagemaker_byoc; print(sagemaker_byoc.__path__[0])') $(command -v python3)"
    )
    assert shell(image, f"find -L {program} ! -perm -o+r 2>/dev/null; find -L {program} -type d ! -perm -o+x") == ""


def test_nothing_is_kept_below_opt_ml(image: str) -> None:
    """0.6: the platform mounts over it."""
    assert shell(image, "find /opt/ml -type f 2>/dev/null; true") == ""


def test_secrets_and_addresses_of_the_build_are_not_in_the_image(image: str) -> None:
    """Indexes are build arguments, never settings of the image."""
    told = ("PIP_INDEX", "PIP_EXTRA", "PIP_FIND", "PIP_TRUSTED", "UV_", "AWS_")
    assert not [entry for entry in inspect(image)["Env"] if entry.startswith(told)]
    files = shell(image, "cat /etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf 2>/dev/null; true")
    assert not [word for word in ("://", "index", "find-links", "trusted") if word in files], files


def test_no_command_and_no_input_explains_how_to_start_it(image: str) -> None:
    """A person who types `docker run IMAGE`."""
    ran = run(image)
    assert "train" in ran.log
    assert "serve" in ran.log
    assert "Traceback" not in ran.log


def test_installed_packages_agree_with_each_other(image: str) -> None:
    """A broken pin is found here, not in a job."""
    ran = run(image, "python3", "-m", "pip", "check")
    assert ran.exit_code == 0, ran.log


def test_whatever_is_imported_is_compiled(image: str) -> None:
    """18.5: a cold start, by a user who may write nowhere, has no time to compile: every module has its bytecode."""
    script = (
        "import importlib.util, pathlib, site, sysconfig\n"
        "roots = [*site.getsitepackages(), '/opt/program/lib', sysconfig.get_path('stdlib')]\n"
        "parts = [pathlib.Path(root) / name for root in roots for name in ('gunicorn', 'flask', 'numpy', 'torch',"
        " 'werkzeug', 'uvloop', 'sagemaker_byoc', 'asyncio', 'http')]\n"
        "files = [file for part in parts for file in part.rglob('*.py') if 'testing' not in file.parts]\n"
        "def stale(file):\n"
        "    cached = pathlib.Path(importlib.util.cache_from_source(str(file)))\n"
        "    if not cached.exists():\n"
        "        return True\n"
        "    head = cached.read_bytes()[:16]\n"
        "    when = int(file.stat().st_mtime).to_bytes(8, 'little')[:4]\n"
        "    return head[:4] != importlib.util.MAGIC_NUMBER or (head[4:8] == bytes(4) and head[8:12] != when)\n"
        "print(len(files), [str(file) for file in files if stale(file)])"
    )
    count, _, missing = shell(image, f'python3 -c "{script}"').partition(" ")
    assert int(count) > 1000
    assert missing.strip() == "[]"


def test_nginx_accepts_its_configuration_and_leaves_its_name_out(image: str) -> None:
    """13.11, 18.6: with the module that this takes, and as a user who may write to /tmp only."""
    script = (
        "import pathlib, subprocess, sys\n"
        "from sagemaker_byoc.serving import nginx\n"
        "from sagemaker_byoc.serving.settings import ServeSettings\n"
        "run = pathlib.Path('/tmp/run'); run.mkdir(); (run / 'access.log').touch()\n"
        "text = nginx.render(ServeSettings.read({}), run)\n"
        "(run / 'nginx.conf').write_text(text)\n"
        "assert 'more_clear_headers Server' in text\n"
        "sys.exit(subprocess.run([*nginx.command('nginx', run), '-t']).returncode)"
    )
    ran = run(image, "python3", "-c", script, options=["--user", "1000", "--read-only", "--tmpfs", "/tmp"])
    assert ran.exit_code == 0, ran.log
    assert "[warn]" not in ran.log


def test_caches_of_the_build_are_not_in_the_image(image: str) -> None:
    """18.2: every megabyte is pulled by every host."""
    caches = "/var/cache/apt /var/lib/apt/lists /root/.cache /opt/sbom /build"
    assert shell(image, f"find {caches} -type f -size +64k 2>/dev/null; true") == ""

"""`docker run IMAGE serve` with a hand-made /opt/ml: no harness."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import alarming_lines
from tests.support.docker import Running, mounted, open_to_everyone, run
from tests.support.opt_ml import OptMl

pytestmark = pytest.mark.docker

PUBLISHED = ["-p", "127.0.0.1::8080"]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--user", "1000", "--network", "none"]


def test_model_mounted_read_only_is_served_by_nginx(image: str, opt_ml: OptMl) -> None:
    """13.1, 13.5, 14.1, 15.1."""
    opt_ml.model_code("echoes")
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        reply = server.invoke(b"[[1, 2]]")
        assert (reply.status, reply.json) == (200, [[1, 2]])
        assert reply.headers["server"].startswith("nginx")
        assert alarming_lines(server.log) == []


def test_serving_needs_no_root_no_network_and_no_writable_image(image: str, opt_ml: OptMl) -> None:
    """13.10, 13.11, 18.6."""
    opt_ml.model_code("echoes")
    open_to_everyone(opt_ml)
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *HARDENED]) as server:
        server.wait_until_ready_inside()
        assert server.ask_inside("/invocations", "[7]") == (200, "[7]")
        assert alarming_lines(server.log) == []
        assert server.stop(30) == 0


def test_another_port_is_listened_on_and_8080_is_left_alone(image: str, opt_ml: OptMl) -> None:
    """15.30, 15.31: several containers share one host name."""
    opt_ml.model_code("echoes")
    options = [*mounted(opt_ml, read_only_model=True), "-e", "SAGEMAKER_BIND_TO_PORT=9123"]
    with Running(image, "serve", options=options) as server:
        server.wait_for_line("9123")
        listening = "import sys\nfor l in open('/proc/net/tcp').readlines()[1:]:\n f=l.split()\n"
        listening += " if f[3]=='0A': print(int(f[1].split(':')[1],16))"
        deadline = time.monotonic() + 30
        ports: set[str] = set()
        while "9123" not in ports and time.monotonic() < deadline:
            ports = set(server.execute("python3", "-c", listening).split())
        assert ports == {"9123"}


def test_stop_drains_and_exits_0_promptly(image: str, opt_ml: OptMl) -> None:
    """13.2: the request in flight is answered, then the container ends well within 30 seconds."""
    opt_ml.model_code("slow_predict")
    gate = opt_ml.base / "output" / "gate"
    options = [*mounted(opt_ml), *PUBLISHED, "-e", "TEST_GATE=/opt/ml/output/gate"]
    with Running(image, "serve", options=options) as server, ThreadPoolExecutor(2) as pool:
        server.wait_until_ready()
        answer = pool.submit(server.invoke, b"[1]")
        server.wait_for_line("predicting")
        stopped = pool.submit(server.stop, 30)
        gate.touch()
        assert answer.result().status == 200
        began = time.monotonic()
        assert stopped.result() == 0
        assert time.monotonic() - began < 15


def test_idle_server_stops_promptly(image: str, opt_ml: OptMl) -> None:
    """13.2."""
    opt_ml.model_code("echoes")
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        began = time.monotonic()
        assert server.stop(30) == 0
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("victim", ["nginx", "gunicorn"])
def test_death_of_either_server_ends_the_container_with_an_error(image: str, opt_ml: OptMl, victim: str) -> None:
    """13.3."""
    opt_ml.model_code("echoes")
    kill = (
        "import os,signal,sys\n"
        "for p in filter(str.isdigit, os.listdir('/proc')):\n"
        " if p!=str(os.getpid()) and open(f'/proc/{p}/stat').read().rpartition(')')[2].split()[1]=='1':\n"
        "  if sys.argv[1] in open(f'/proc/{p}/cmdline').read(): os.kill(int(p), signal.SIGKILL)"
    )
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        server.execute("python3", "-c", kill, victim)
        deadline = time.monotonic() + 40
        while server.state["Running"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not server.state["Running"], server.log
        assert server.state["ExitCode"] != 0


def test_model_that_training_wrote_is_served_from_the_archive(image: str, opt_ml: OptMl) -> None:
    """6.9: train, then serve what it left, read-only, with the code baked into the image gone from both."""
    opt_ml.code("succeeds")
    assert run(image, "train", options=mounted(opt_ml)).exit_code == 0
    opt_ml.model_code("echoes")
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        assert server.wait_until_ready().invoke(b"[1]").status == 200


def test_wrong_setting_ends_the_container_with_64(image: str) -> None:
    """22.1."""
    ran = run(image, "serve", options=["-e", "SAGEMAKER_BIND_TO_PORT=eighty"])
    assert ran.exit_code == 64
    assert "SAGEMAKER_BIND_TO_PORT" in ran.log

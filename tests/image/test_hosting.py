"""`docker run IMAGE serve` with a hand-made /opt/ml: no harness."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import alarming_lines
from tests.support.docker import Running, docker, mounted, open_to_everyone, run
from tests.support.load import clients
from tests.support.opt_ml import OptMl
from tests.support.places import REPOSITORY, program
from tests.support.waiting import wait_until
from tests.support.wheels import wheel

pytestmark = pytest.mark.docker

PUBLISHED = ["-p", "127.0.0.1::8080"]
HARDENED = ["--read-only", "--tmpfs", "/tmp", "--user", "1000", "--network", "none"]
BOTH_LANES = pytest.mark.parametrize("lane", ["wsgi", "asgi"])
IMAGE_OF_A_DIGIT = json.dumps([[0.0] * 64])

ASK = """
import json, sys, urllib.error, urllib.request
port, path, body, headers = sys.argv[1:]
request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body.encode() or None, json.loads(headers))
try:
    reply = urllib.request.urlopen(request, timeout=20)
except urllib.error.HTTPError as error:
    reply = error
except OSError:
    sys.exit(print("null"))
headers = {name.lower(): value for name, value in reply.headers.items()}
print(json.dumps({"status": reply.status, "headers": headers, "body": reply.read().decode()}))
"""
KILL_ONE_WORKER = """
import glob, os, signal, time
def command(pid):
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read()
def parent(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])
def loaded():
    return {int(mark.rpartition("-")[2]) for mark in glob.glob("/tmp/sagemaker-byoc-*/loaded-*")}
before = loaded()
victim = min(before)
assert "sagemaker_byoc.serving.gunicorn" in command(parent(victim))
os.kill(victim, signal.SIGKILL)
killed = time.monotonic()
while not loaded() - before:
    assert time.monotonic() < killed + 120, "no new worker"
    time.sleep(0.01)
print(time.monotonic() - killed)
"""


@pytest.fixture(scope="session")
def digits_model(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that the image's own training leaves, with its code, readable by everyone."""
    tree = OptMl.make(tmp_path_factory.mktemp("digits") / "opt_ml")
    prepare = REPOSITORY / "opt_ml_template" / "prepare_data.py"
    subprocess.run([sys.executable, prepare, "--project", tree.base], check=True)
    tree.config("inputdataconfig.json", {"train": {}, "validation": {}})
    tree.hyperparameters(epochs="1")
    trained = run(image, "train", options=[*mounted(tree), "-e", "OMP_NUM_THREADS=1"])
    assert trained.exit_code == 0, trained.log
    open_to_everyone(tree)
    return tree.base / "model"


def model_mounted(folder: Path) -> list[str]:
    """Options that put a folder where hosting unpacks models."""
    return ["-v", f"{folder}:/opt/ml/model:ro"]


def ask(
    server: Running, path: str, body: str = "", headers: Mapping[str, str] | None = None, port: int = 8080
) -> dict[str, Any]:
    """One request from within the container, which needs no network: status, headers and body of the reply."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    reply: dict[str, Any] | None = json.loads(
        server.execute("python3", "-c", ASK, str(port), path, body, json.dumps(sent))
    )
    return reply or {"status": 0}


def ready_inside(server: Running, port: int) -> None:
    """Wait until /ping answers 200 on a port of the container."""
    wait_until(lambda: ask(server, "/ping", port=port)["status"] == 200, f"/ping on port {port}", 240, interval=0.2)


def test_model_mounted_read_only_is_served_by_nginx(image: str, opt_ml: OptMl) -> None:
    """13.1, 13.5, 14.1, 15.1."""
    opt_ml.model_code("echoes")
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        reply = server.invoke(b"[[1, 2]]")
        assert (reply.status, reply.json) == (200, [[1, 2]])
        assert "server" not in reply.headers
        assert alarming_lines(server.log) == []


def test_package_that_travels_with_the_model_is_installed_without_a_network(image: str, opt_ml: OptMl) -> None:
    """13.5, 13.10, 13.11, 22.1: from its wheel, where the image cannot be written to; who asks for more is told."""
    options = [*model_mounted(opt_ml.base / "model"), *HARDENED]
    opt_ml.model_code("uses_a_package")
    code = opt_ml.base / "model" / "code"
    (code / "requirements.txt").write_text("--no-index\n--find-links wheels\ntiny==1.0\nnumpy\n")
    (code / "wheels").mkdir()
    (code / "wheels" / "tiny-1.0-py3-none-any.whl").write_bytes(wheel())
    open_to_everyone(opt_ml)
    with Running(image, "serve", options=options) as server:
        server.wait_until_ready_inside()
        assert server.ask_inside("/invocations", "7") == (200, "[42,7]")
        assert server.log.count("byoc: installing tiny==1.0 (/opt/ml/model/code/requirements.txt)") == 1
        assert alarming_lines(server.log) == []
    (code / "requirements.txt").write_text("no-such-package-anywhere\n")
    refused = run(image, "serve", options=options)
    assert refused.exit_code == 66, refused.log
    assert "no package index answers" in refused.log
    assert "Traceback" not in refused.log


def test_serving_needs_no_root_no_network_and_no_writable_image(image: str, opt_ml: OptMl) -> None:
    """13.10, 13.11, 18.6, 28.12, 29.7: what is not certain is survived."""
    opt_ml.model_code("echoes")
    open_to_everyone(opt_ml)
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *HARDENED]) as server:
        server.wait_until_ready_inside()
        assert server.ask_inside("/invocations", "[7]") == (200, "[7]")
        assert alarming_lines(server.log) == []
        assert server.stop(30) == 0


@BOTH_LANES
def test_serverless_endpoint_serves_the_digits(image: str, digits_model: Path, lane: str) -> None:
    """18.1, 18.6, 15.14, 13.12, 13.2: no root, nothing writable but /tmp, one gigabyte; in both lanes."""
    # A worker for each of many cores would not have room in it.
    options = [*HARDENED, "--cpus", "1", "--memory", "1g", *model_mounted(digits_model), "-e", f"BYOC_LANE={lane}"]
    with Running(image, "serve", options=options) as server:
        server.wait_until_ready_inside()
        reply = ask(server, "/invocations", IMAGE_OF_A_DIGIT, {"X-Amzn-SageMaker-Inference-Id": "case-7"})
        assert reply["status"] == 200
        assert sum(json.loads(reply["body"])[0]) == pytest.approx(1, abs=1e-3)
        assert "server" not in reply["headers"]
        server.wait_for_line("case-7")
        line = json.loads(next(line for line in server.log.splitlines() if "case-7" in line))
        assert (line["path"], line["status"]) == ("/invocations", 200)
        scraped = ask(server, "/metrics")
        assert scraped["status"] == 200
        assert scraped["headers"]["content-type"].startswith("text/plain")
        assert "_total" in scraped["body"]
        assert alarming_lines(server.log) == []
        assert server.stop(30) == 0


def test_killed_worker_is_back_within_two_seconds(image: str, digits_model: Path) -> None:
    """13.3: with its model, PyTorch's, loaded."""
    options = [*model_mounted(digits_model), *PUBLISHED, "-e", "SAGEMAKER_MODEL_SERVER_WORKERS=2"]
    with Running(image, "serve", options=options) as server:
        server.wait_until_ready()
        # A busy machine makes it slow now and then; what is slow by itself is slow each time.
        assert any(float(server.execute("python3", "-c", KILL_ONE_WORKER)) < 2 for _ in range(5))
        assert server.invoke(IMAGE_OF_A_DIGIT.encode()).status == 200


@BOTH_LANES
def test_reload_under_load_fails_no_request(image: str, digits_model: Path, lane: str) -> None:
    """13.2, 14.8: `docker kill -s HUP` goes to process 1, which tells gunicorn's master."""
    two = ["-e", "SAGEMAKER_MODEL_SERVER_WORKERS=2", "-e", f"BYOC_LANE={lane}"]
    with Running(image, "serve", options=[*model_mounted(digits_model), *PUBLISHED, *two]) as server:
        server.wait_until_ready()
        with clients(server.port, 4, IMAGE_OF_A_DIGIT.encode()) as load:
            wait_until(lambda: load.answered > 50, "traffic")
            docker("kill", "-s", "HUP", server.id)
            server.wait_for_line("reloaded: every slot has a new worker")
            seen = load.answered
            wait_until(lambda: load.answered > seen + 50, "more traffic")
        assert load.failures == []
        assert set(load.statuses) == {200}


def test_want_of_memory_is_named_and_costs_one_worker_only(image: str, opt_ml: OptMl) -> None:
    """1.11, 13.3: the kernel kills in silence, the log must not."""
    opt_ml.model_code("fills_memory_when_asked")
    little = ["--memory", "256m", "--memory-swap", "256m", "-e", "SAGEMAKER_MODEL_SERVER_WORKERS=2"]
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED, *little]) as server:
        server.wait_until_ready()
        reply = server.invoke(b'"fill"')
        assert (reply.status, reply.error["type"]) == (502, "WorkerLost")
        server.wait_for_line("out of memory: the kernel killed 1 process at the container's limit of 256 MiB")
        assert server.invoke(b"[1]").json == [1]
        assert server.state["Running"]


def test_containers_of_one_endpoint_share_a_host_name(image: str, opt_ml: OptMl) -> None:
    """15.30, 15.31: two of the same image in one network namespace, each on the port that it is told."""
    opt_ml.model_code("echoes")
    options = mounted(opt_ml, read_only_model=True)
    with Running(image, "serve", options=options) as first:
        beside = [*options, "--network", f"container:{first.id}", "-e", "SAGEMAKER_BIND_TO_PORT=23001"]
        with Running(image, "serve", options=beside) as second:
            for port in (8080, 23001):
                ready_inside(first, port)
                assert ask(first, "/invocations", f"[{port}]", port=port)["body"] == f"[{port}]"
            assert second.stop(30) == 0
        assert ask(first, "/invocations", "[1]")["status"] == 200


def test_port_that_another_container_has_ends_this_one_and_is_named(image: str, opt_ml: OptMl) -> None:
    """15.31, 13.3: never silence."""
    opt_ml.model_code("echoes")
    options = mounted(opt_ml, read_only_model=True)
    with Running(image, "serve", options=options) as first:
        first.wait_until_ready_inside()
        late = run(image, "serve", options=[*options, "--network", f"container:{first.id}"])
        assert late.exit_code != 0
        assert "8080" in late.log
        assert ask(first, "/invocations", "[1]")["status"] == 200


def test_pipeline_of_two_containers(image: str, opt_ml: OptMl, tmp_path: Path) -> None:
    """15.32: the body and the content type of one container's answer are the next one's request."""
    opt_ml.model_code("echoes")
    last = OptMl.make(tmp_path / "last")
    last.model_code("describes_input")
    one = [*mounted(opt_ml, read_only_model=True), "-e", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT=text/csv"]
    with Running(image, "serve", options=[*one, "-e", "SAGEMAKER_BIND_TO_PORT=23000"]) as first:
        two = [*mounted(last, read_only_model=True), "-e", "SAGEMAKER_BIND_TO_PORT=23001"]
        with Running(image, "serve", options=[*two, "--network", f"container:{first.id}"]):
            ready_inside(first, 23000)
            ready_inside(first, 23001)
            between = ask(first, "/invocations", "[[1, 2, 3], [4, 5, 6]]", port=23000)
            content_type = between["headers"]["content-type"]
            assert content_type.startswith("text/csv")
            answer = ask(first, "/invocations", between["body"], {"Content-Type": content_type}, 23001)
            assert json.loads(answer["body"])["shape"] == [2, 3]


def test_model_without_code_is_served(image: str, tmp_path: Path) -> None:
    """13.6, 22.1: model.onnx alone in the model's folder; the template's code knows nothing of it and stays away."""
    import onnx
    from onnx import TensorProto, helper

    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("numbers", "doubled")]
    double = helper.make_node("Add", ["numbers", "numbers"], ["doubled"])
    graph = helper.make_graph([double], "doubles", names[:1], names[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model").mkdir()
    onnx.save(model, str(tmp_path / "model" / "model.onnx"))
    with Running(image, "serve", options=[*model_mounted(tmp_path / "model"), *HARDENED]) as server:
        server.wait_until_ready_inside()
        assert json.loads(ask(server, "/invocations", "[[1, 2], [3, 4]]")["body"]) == [[2, 4], [6, 8]]


def test_many_models_are_loaded_asked_and_unloaded(image: str, tmp_path: Path) -> None:
    """0.12, 15.23 to 15.27: what the label promises; ping passes with no model."""
    folder = tmp_path / "models" / "a1b2" / "model"
    shutil.copytree(program("echoes"), folder / "code")
    options = ["-v", f"{tmp_path / 'models'}:/opt/ml/models:ro", "-e", "SAGEMAKER_MULTI_MODEL=true"]
    with Running(image, "serve", options=[*options, *HARDENED]) as server:
        server.wait_until_ready_inside()
        load = json.dumps({"model_name": "a1b2", "url": "/opt/ml/models/a1b2/model"})
        assert ask(server, "/models/a1b2/invoke", "[1]")["status"] == 404
        assert [ask(server, "/models", load)["status"] for _ in range(2)] == [200, 409]
        assert ask(server, "/models/a1b2/invoke", "[1]")["body"] == "[1]"


def test_streams_in_both_directions_reach_the_function(image: str, opt_ml: OptMl) -> None:
    """0.12, 15.19: what the label promises, through nginx."""
    from websockets.sync.client import connect

    opt_ml.model_code("answers_in_both_directions")
    options = [*mounted(opt_ml, read_only_model=True), *PUBLISHED, "-e", "BYOC_LANE=asgi"]
    with Running(image, "serve", options=options) as server:
        server.wait_until_ready()
        address = f"ws://127.0.0.1:{server.port}/invocations-bidirectional-stream"
        with connect(address, compression=None) as caller:
            caller.send("hello")
            assert caller.recv(timeout=60) == "hello"


def test_workers_are_as_many_as_the_copys_share_of_the_machine(image: str, opt_ml: OptMl) -> None:
    """20.2, 18.3: by the container's quota of processor time, whatever the host has."""
    opt_ml.model_code("echoes")
    count = "import glob; print(len(glob.glob('/tmp/sagemaker-byoc-*/loaded-*')))"
    options = [*mounted(opt_ml, read_only_model=True), *HARDENED, "--cpus", "1"]
    with Running(image, "serve", options=options) as server:
        server.wait_until_ready_inside()
        assert server.execute("python3", "-c", count).strip() == "1"


def test_another_port_is_listened_on_and_8080_is_left_alone(image: str, opt_ml: OptMl) -> None:
    """15.30, 15.31: several containers share one host name."""
    opt_ml.model_code("echoes")
    options = [*mounted(opt_ml, read_only_model=True), "-e", "SAGEMAKER_BIND_TO_PORT=9123"]
    with Running(image, "serve", options=options) as server:
        server.wait_for_line("9123")
        listening = "import sys\nfor l in open('/proc/net/tcp').readlines()[1:]:\n f=l.split()\n"
        listening += " if f[3]=='0A': print(int(f[1].split(':')[1],16))"

        def ports() -> set[str]:
            return set(server.execute("python3", "-c", listening).split())

        wait_until(lambda: "9123" in ports(), "a server on port 9123", 240, interval=0.2)
        assert ports() == {"9123"}


@BOTH_LANES
def test_stop_drains_and_exits_0_promptly(image: str, opt_ml: OptMl, lane: str) -> None:
    """13.2: the request in flight is answered, then the container ends well within 30 seconds."""
    opt_ml.model_code("slow_predict")
    gate = opt_ml.base / "output" / "gate"
    options = [*mounted(opt_ml), *PUBLISHED, "-e", "TEST_GATE=/opt/ml/output/gate", "-e", f"BYOC_LANE={lane}"]
    with Running(image, "serve", options=options) as server, ThreadPoolExecutor(2) as pool:
        server.wait_until_ready()
        answer = pool.submit(server.invoke, b"[1]")
        server.wait_for_line("predicting")
        stopped = pool.submit(server.stop, 30)
        server.wait_for_line("draining")
        gate.touch()
        assert answer.result().status == 200
        began = time.monotonic()
        assert stopped.result() == 0
        assert time.monotonic() - began < 25


def test_idle_server_stops_promptly(image: str, opt_ml: OptMl) -> None:
    """13.2."""
    opt_ml.model_code("echoes")
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        began = time.monotonic()
        assert server.stop(30) == 0
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("victim", ["nginx", "gunicorn"])
def test_death_of_either_server_ends_the_container_with_an_error(image: str, opt_ml: OptMl, victim: str) -> None:
    """13.3."""
    opt_ml.model_code("echoes")
    kill = (
        "import contextlib,os,signal,sys\n"
        "for p in filter(str.isdigit, os.listdir('/proc')):\n"
        " with contextlib.suppress(OSError):  # it has just ended\n"
        "  if p!=str(os.getpid()) and open(f'/proc/{p}/stat').read().rpartition(')')[2].split()[1]=='1':\n"
        "   if sys.argv[1] in open(f'/proc/{p}/cmdline').read(): os.kill(int(p), signal.SIGKILL)"
    )
    with Running(image, "serve", options=[*mounted(opt_ml, read_only_model=True), *PUBLISHED]) as server:
        server.wait_until_ready()
        server.execute("python3", "-c", kill, victim)
        wait_until(lambda: not server.state["Running"], "the container's end", 240, interval=0.2)
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

"""TF_CONFIG as SageMaker's TensorFlow images write it, and the parameter server program.

The documents below are what the functions of sagemaker-tensorflow-training 20.5.0 return.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.training.parameter_server import (
    ServerTask,
    mirrored_config,
    parameter_server_config,
    server_command,
)

from tests.support.training import clean_environment

TWO = ["algo-1", "algo-2"]
CLUSTER = (
    '"cluster": {"master": ["algo-1:2222"], "ps": ["algo-1:2223", "algo-2:2223"], "worker": ["algo-2:2222"]}, '
    '"environment": "cloud"'
)
# Stands where TensorFlow would: says what it was asked for, and returns at once instead of serving for ever.
RECORDER = """\
import json, os
class train:
    ClusterSpec = dict
class errors:
    class OpError(Exception): pass
class distribute:
    class Server:
        def __init__(self, cluster, job_name, task_index):
            print(json.dumps([cluster, job_name, task_index, os.environ["CUDA_VISIBLE_DEVICES"]]))
            if "taken:1" in cluster[job_name]: raise errors.OpError("Could not start gRPC server")
        def join(self): print("served")
"""


@pytest.mark.parametrize(
    ("host", "serves", "task"),
    [
        ("algo-1", False, '{"index": 0, "type": "master"}'),
        ("algo-2", False, '{"index": 0, "type": "worker"}'),
        ("algo-1", True, '{"index": 0, "type": "ps"}'),
        ("algo-2", True, '{"index": 1, "type": "ps"}'),
    ],
)
def test_script_and_server_of_each_of_two_hosts_get_awss_document(host: str, serves: bool, task: str) -> None:
    """5.1, 12.5: sagemaker_parameter_server_enabled."""
    golden = f'{{{CLUSTER}, "task": {task}}}'
    assert parameter_server_config(TWO, host, serves=serves) == json.loads(golden)


def test_every_host_but_the_first_is_a_worker_in_the_hosts_order() -> None:
    """2.9, 12.5: algo-10 stands before algo-2, and every host must count the same way."""
    hosts = ["algo-1", "algo-10", "algo-2"]
    document = parameter_server_config(hosts, "algo-2")
    assert document["cluster"] == {
        "master": ["algo-1:2222"],
        "ps": ["algo-1:2223", "algo-10:2223", "algo-2:2223"],
        "worker": ["algo-10:2222", "algo-2:2222"],
    }
    assert document["task"] == {"index": 1, "type": "worker"}


def test_single_host_is_a_master_without_servers() -> None:
    """12.5."""
    golden = '{"cluster": {"master": ["algo-1:2222"]}, "environment": "cloud", "task": {"index": 0, "type": "master"}}'
    assert parameter_server_config(["algo-1"], "algo-1") == json.loads(golden)
    with pytest.raises(ValueError, match="algo-1 is the only host"):
        parameter_server_config(["algo-1"], "algo-1", serves=True)


@pytest.mark.parametrize("hosts", [["algo-1"], TWO])
def test_mirrored_strategy_has_workers_only(hosts: list[str]) -> None:
    """12.5: sagemaker_multi_worker_mirrored_strategy_enabled; one host gets its document too."""
    addresses = json.dumps([f"{host}:8890" for host in hosts])
    golden = (
        f'{{"cluster": {{"worker": {addresses}}}, "environment": "cloud", '
        f'"task": {{"index": {len(hosts) - 1}, "type": "worker"}}}}'
    )
    assert mirrored_config(hosts, hosts[-1]) == json.loads(golden)


def test_server_reads_its_task_from_the_document_that_is_written_for_it() -> None:
    """12.5."""
    document = parameter_server_config(TWO, "algo-2", serves=True)
    task = ServerTask.read({"TF_CONFIG": json.dumps(document)})
    assert (task.kind, task.index, task.address) == ("ps", 1, "algo-2:2223")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '{"cluster": {}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": -1}}',
        '{"cluster": {"ps": ["a:1"]}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": 7, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_document_that_names_no_task_of_its_cluster_is_refused(text: str) -> None:
    """5.1: a server that guessed its role would leave its peers waiting."""
    with pytest.raises(PlatformInputError, match="TF_CONFIG"):
        ServerTask.read({"TF_CONFIG": text})


def serve(folder: Path, tensorflow: str, cluster: Mapping[str, list[str]]) -> subprocess.CompletedProcess[str]:
    """Run the server program to its end, with a module `tensorflow` of this text."""
    (folder / "modules").mkdir()
    (folder / "modules/tensorflow.py").write_text(tensorflow)
    document = {"cluster": cluster, "task": {"type": "ps", "index": 0}}
    given = clean_environment({"TF_CONFIG": json.dumps(document)})
    given["PYTHONPATH"] += f":{folder / 'modules'}"
    return subprocess.run(
        server_command(), env=given, cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_server_program_serves_its_task_without_a_gpu(tmp_path: Path) -> None:
    """5.1: TensorFlow would take all memory of a GPU that the script needs."""
    cluster = {"ps": ["algo-1:2223"], "worker": ["algo-2:2222"]}
    done = serve(tmp_path, RECORDER, cluster)
    asked, end = done.stdout.splitlines()
    assert json.loads(asked) == [cluster, "ps", 0, "-1"]
    assert (end, done.returncode) == ("served", 0)
    assert "parameter server 0 serves on algo-1:2223" in done.stderr


def test_modules_of_the_users_folder_do_not_stand_before_those_of_the_server(tmp_path: Path) -> None:
    """5.1: the server runs in the user's code folder."""
    (tmp_path / "json.py").write_text("raise SystemExit('the user has a json.py too')")
    assert serve(tmp_path, RECORDER, {"ps": ["algo-1:2223"]}).returncode == 0


def test_without_tensorflow_the_server_says_what_to_install(tmp_path: Path) -> None:
    """12.5: and shows no traceback."""
    absent = "raise ModuleNotFoundError(\"No module named 'tensorflow'\")"
    done = serve(tmp_path, absent, {"ps": ["algo-1:2223"]})
    assert done.returncode == 66
    assert done.stderr.startswith("sagemaker-byoc: UserCodeError: sagemaker_parameter_server_enabled")
    assert "No module named 'tensorflow'" in done.stderr
    assert "requirements.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """5.2."""
    done = serve(tmp_path, RECORDER, {"ps": ["taken:1"]})
    assert done.returncode == 64
    assert "could not listen on taken:1" in done.stderr
    assert "Traceback" not in done.stderr

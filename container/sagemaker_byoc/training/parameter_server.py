"""TF_CONFIG and the server process for TensorFlow's parameter servers and its mirrored strategy, as on SageMaker.

Nothing here runs or imports TensorFlow: documents are made, and the command that the launcher starts beside the script.
Source: sagemaker-tensorflow-training, the package in SageMaker's TensorFlow images; TensorFlow guide, "TF_CONFIG".
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.errors import PlatformInputError

VARIABLE = "TF_CONFIG"
SCRIPT_PORT = 2222
SERVER_PORT = 2223
MIRRORED_PORT = 8890


def parameter_server_config(hosts: Sequence[str], current_host: str, *, serves: bool = False) -> dict[str, Any]:
    """The TF_CONFIG document of one host's script, or with `serves` that of its parameter server.

    The first host is the master and the others are workers; each host serves parameters too. A single host has no
    parameter server and no worker: SageMaker's images then start the script without TF_CONFIG, and so should a caller.

    Args:
        hosts: the hosts that the distribution spans, in the order on which all of them agree.
        current_host: the one that the document is for.
        serves: for the parameter server process, not for the script.

    Raises:
        ValueError: the host is not one of them, or is to serve alone.
    """
    workers = list(hosts[1:])
    cluster = {"master": _addresses(hosts[:1], SCRIPT_PORT)}
    if workers:
        cluster["ps"] = _addresses(hosts, SERVER_PORT)
        cluster["worker"] = _addresses(workers, SCRIPT_PORT)
    index = list(hosts).index(current_host)
    if serves:
        if not workers:
            raise ValueError(f"{current_host} is the only host; parameter servers need at least two")
        return _document(cluster, "ps", index)
    return _document(cluster, "master", 0) if index == 0 else _document(cluster, "worker", index - 1)


def mirrored_config(hosts: Sequence[str], current_host: str) -> dict[str, Any]:
    """The TF_CONFIG document of one host for MultiWorkerMirroredStrategy: every host is a worker, one host too.

    Raises:
        ValueError: the host is not one of them.
    """
    return _document({"worker": _addresses(hosts, MIRRORED_PORT)}, "worker", list(hosts).index(current_host))


def server_command() -> tuple[str, ...]:
    """What runs a parameter server: it reads TF_CONFIG, uses no GPU, and serves until a signal ends it.

    Safe path: it runs in the user's code folder, whose modules must not stand before TensorFlow's own imports.
    """
    return (sys.executable, "-u", "-P", "-m", "sagemaker_byoc.training.parameter_server_process")


@dataclass(frozen=True)
class ServerTask:
    """What a parameter server process has to know: all addresses by task type, its own type and index."""

    cluster: Mapping[str, Sequence[str]]
    kind: str
    index: int

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "ServerTask":
        """Raises PlatformInputError when TF_CONFIG is missing or does not name a task of its own cluster."""
        text = environ.get(VARIABLE, "")
        try:
            document = json.loads(text)
            task = cls(dict(document["cluster"]), str(document["task"]["type"]), int(document["task"]["index"]))
            if not 0 <= task.index < len(task.cluster[task.kind]):
                raise IndexError(f"there is no {task.kind} {task.index}")
        except (ValueError, TypeError, LookupError) as error:
            raise PlatformInputError(
                f"TF_CONFIG is {text!r}: {error!r}. Expected a JSON object with 'cluster' (lists of host:port by task "
                "type) and 'task' (a type of the cluster, and an index into its list)."
            ) from error
        return task

    @property
    def address(self) -> str:
        return self.cluster[self.kind][self.index]


def _addresses(hosts: Sequence[str], port: int) -> list[str]:
    return [f"{host}:{port}" for host in hosts]


def _document(cluster: dict[str, list[str]], kind: str, index: int) -> dict[str, Any]:
    return {"cluster": cluster, "environment": "cloud", "task": {"index": index, "type": kind}}

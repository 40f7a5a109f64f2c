"""The platform's three documents under /opt/ml/input/config, read once into a TrainingJob.

Source: SageMaker developer guide, "How SageMaker AI Provides Training Information". Every document and every key but
the hosts may be absent; unknown files and keys are left alone.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sagemaker_byoc.errors import PlatformInputError
from sagemaker_byoc.paths import MLPaths

HOMOGENEOUS = "homogeneousCluster"
TUNING_METRIC = "_tuning_objective_metric"
RESERVED_PREFIX = "sagemaker_"
# Names that SageMaker's training toolkit consumes itself; other sagemaker_* ones become SM_FRAMEWORK_PARAMS.
CONSUMED = frozenset(
    {
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_enable_cloudwatch_metrics",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "sagemaker_region",
        "sagemaker_s3_output",
        "default_user_module_name",
        TUNING_METRIC,
    }
)


@dataclass(frozen=True)
class Hyperparameter:
    """One hyperparameter: the `token` as the platform sent it and the `value` that its JSON text means."""

    name: str
    token: str
    value: Any

    @classmethod
    def read(cls, name: str, sent: Any) -> "Hyperparameter":
        """SDKs send JSON text, or a bare string; the platform makes a string of everything."""
        token = sent if isinstance(sent, str) else json.dumps(sent)
        return cls(name, token, _decode(token))

    @property
    def text(self) -> str:
        """What a script reads: a string without its quotes, else the token as it was sent (1.10 stays 1.10).

        No program can be given a NUL or half a character; a string with one keeps its JSON escapes.
        """
        plain = self.value if isinstance(self.value, str) else self.token
        return next((text for text in (plain, self.token) if can_be_passed(text)), json.dumps(self.token))

    @property
    def argument(self) -> str:
        """What argv holds: booleans as True and False, objects as `k=v,k=v`, as SageMaker's toolkit writes them."""
        if isinstance(self.value, dict):
            joined = ",".join(f"{key}={value}" for key, value in sorted(self.value.items()))
            return joined if can_be_passed(joined) else self.text
        return str(self.value) if isinstance(self.value, bool) else self.text

    @property
    def is_users(self) -> bool:
        return self.name not in CONSUMED and not self.name.startswith(RESERVED_PREFIX)


@dataclass(frozen=True)
class TrainingJob:
    """One host's view of a training job; `hyperparameters` are in the order of their document."""

    paths: MLPaths
    name: str | None
    hyperparameters: Mapping[str, Hyperparameter]
    resource_config: Mapping[str, Any]
    input_data_config: Mapping[str, Any]

    @classmethod
    def read(cls, paths: MLPaths, environ: Mapping[str, str]) -> "TrainingJob":
        """Raises PlatformInputError when a document is there and is not what the platform writes."""
        sent = _read_object(paths.config / "hyperparameters.json")
        resource_config = _read_object(paths.config / "resourceconfig.json")
        _check_hosts(resource_config, paths.config / "resourceconfig.json")
        return cls(
            paths=paths,
            name=environ.get("TRAINING_JOB_NAME") or None,
            hyperparameters=MappingProxyType({k: Hyperparameter.read(k, v) for k, v in sent.items()}),
            resource_config=MappingProxyType(resource_config),
            input_data_config=MappingProxyType(_read_object(paths.config / "inputdataconfig.json")),
        )

    @property
    def users_hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The user's own, sorted by name."""
        return tuple(h for _, h in sorted(self.hyperparameters.items()) if h.is_users)

    @property
    def framework_hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The SDKs' own `sagemaker_*` that the toolkit does not consume, sorted by name."""
        sent = sorted(self.hyperparameters.items())
        return tuple(h for name, h in sent if name.startswith(RESERVED_PREFIX) and name not in CONSUMED)

    @property
    def hosts(self) -> list[str]:
        return list(self.resource_config.get("hosts") or [self.current_host])

    @property
    def current_host(self) -> str:
        hosts = self.resource_config.get("hosts")
        return str(self.resource_config.get("current_host") or (hosts[0] if hosts else "algo-1"))

    @property
    def network_interface_name(self) -> str:
        return str(self.resource_config.get("network_interface_name") or "eth0")

    @property
    def current_instance_type(self) -> str:
        return str(self.resource_config.get("current_instance_type") or "local")

    @property
    def current_instance_group(self) -> str:
        return str(self.resource_config.get("current_group_name") or HOMOGENEOUS)

    @property
    def instance_groups(self) -> list[dict[str, Any]]:
        groups = self.resource_config.get("instance_groups")
        if groups:
            return [dict(group) for group in groups]
        return [
            {
                "instance_group_name": HOMOGENEOUS,
                "instance_type": self.current_instance_type,
                "hosts": self.hosts,
            }
        ]

    @property
    def channels(self) -> dict[str, str]:
        """Channel name to its folder; in Pipe mode the FIFOs are that path with `_0`, `_1` … added."""
        return {name: str(self.paths.data / name) for name in sorted(self.input_data_config)}

    def value(self, name: str) -> Any:
        """The decoded value of a hyperparameter, or None."""
        hyperparameter = self.hyperparameters.get(name)
        return hyperparameter.value if hyperparameter else None


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; a missing or empty file is an empty object."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors of Windows begin with a byte order mark
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformInputError(f"{path} cannot be read: {error}. Expected a JSON object in UTF-8.") from error
    if not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError as error:
        raise PlatformInputError(
            f"{path} is not valid JSON: {error}. Expected one JSON object, as the platform writes it; mend the file."
        ) from error
    if not isinstance(document, dict):
        raise PlatformInputError(f"{path} holds a JSON {type(document).__name__}; expected a JSON object.")
    return document


def _check_hosts(resource_config: Mapping[str, Any], path: Path) -> None:
    hosts, current = resource_config.get("hosts"), resource_config.get("current_host")
    if hosts is not None and not (isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)):
        raise PlatformInputError(f"{path}: key 'hosts' is {hosts!r}; expected a list of host names.")
    if current is not None and not isinstance(current, str):
        raise PlatformInputError(f"{path}: key 'current_host' is {current!r}; expected a host name.")
    if hosts and current and current not in hosts:
        raise PlatformInputError(f"{path}: 'current_host' {current!r} is not one of 'hosts' {hosts!r}.")
    groups = resource_config.get("instance_groups")
    if groups is None:
        return
    if not (isinstance(groups, list) and all(isinstance(group, dict) for group in groups)):
        raise PlatformInputError(f"{path}: key 'instance_groups' is {groups!r}; expected a list of objects.")
    for group in groups:
        if not isinstance(group.get("hosts", []), list):
            raise PlatformInputError(
                f"{path}: 'hosts' of an instance group is {group['hosts']!r}; expected a list of host names."
            )


def can_be_passed(text: str) -> bool:
    """Whether a program can be given this text as an argument or in a variable."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _decode(token: str) -> Any:
    """The value that a JSON text means; a text that is no JSON, or nested too deeply for a parser, is itself."""
    try:
        return json.loads(token, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return token


def _refuse_constant(name: str) -> None:
    # NaN and Infinity are no JSON; as text they reach the script unchanged and SM_HPS stays readable by everyone.
    raise ValueError(name)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)  # 1e999 is JSON, and printing what Python makes of it is not
    return number

"""The documents below /opt/ml/input/config as jobs have them, and as jobs might: with more in them, or with less."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from local_sagemaker.conformance.setup import Setup
from local_sagemaker.engines.base import BASE_DIR
from local_sagemaker.training.cluster import plan_cluster
from local_sagemaker.training.platform_files import resource_config

CONFIG = f"{BASE_DIR}/input/config"
HOST = "algo-1"
ODD_HOST = "algo-1-k3x9q"
# Seen in real jobs and told nowhere.
UNTOLD_FILES = ("init-config.json", "trainingjobconfig.json", "metric-definition-regex.json", "debughookconfig.json")


def documents(
    hyperparameters: Mapping[str, str], resources: Mapping[str, Any], channels: Mapping[str, Any]
) -> dict[str, bytes]:
    """The three files of a host, by path."""
    named = {
        "hyperparameters.json": dict(hyperparameters),
        "resourceconfig.json": dict(resources),
        "inputdataconfig.json": dict(channels),
    }
    return {f"{CONFIG}/{name}": json.dumps(document).encode() for name, document in named.items()}


def described(channels: Iterable[str]) -> dict[str, dict[str, str]]:
    """Channels of complete copies of files."""
    usual = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    return {name: dict(usual) for name in channels}


def told_resources() -> dict[str, Any]:
    """The keys that are documented for every job."""
    return {"current_host": HOST, "hosts": [HOST], "network_interface_name": "eth0"}


def _changed(setup: Setup, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Setup:
    path = f"{CONFIG}/{name}"
    return replace(setup, files={**setup.files, path: json.dumps(change(json.loads(setup.files[path]))).encode()})


def with_hyperparameters(setup: Setup, change: Callable[[dict[str, str]], dict[str, str]]) -> Setup:
    """The setup with other hyperparameters."""
    return _changed(setup, "hyperparameters.json", change)


def tuned(hyperparameters: dict[str, str]) -> dict[str, str]:
    """As a tuning job sends them."""
    return {**hyperparameters, "_tuning_objective_metric": "validation:loss"}


def encoded(hyperparameters: dict[str, str]) -> dict[str, str]:
    """As an SDK sends them: texts are encoded as JSON, numbers look the same."""
    return {name: value if _is_json(value) else json.dumps(value) for name, value in hyperparameters.items()}


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


def with_untold_configuration(setup: Setup) -> Setup:
    """The setup with every key that real jobs have, one that none has, and files that nobody documents."""

    def widen(document: dict[str, Any]) -> dict[str, Any]:
        host = document["current_host"]
        full = resource_config(plan_cluster(instance_type="ml.m5.xlarge"), "algo-1", "eth0")
        groups = [{**group, "hosts": [host]} for group in full["instance_groups"]]
        return {**full, **document, "instance_groups": groups, "something_new": {"nested": [None]}}

    widened = _changed(setup, "resourceconfig.json", widen)
    untold = {f"{CONFIG}/{name}": b"{}" for name in UNTOLD_FILES}
    return replace(widened, files={**widened.files, **untold})


def with_odd_host(setup: Setup) -> Setup:
    """The setup on a host that is not called algo-1."""

    def rename(document: dict[str, Any]) -> dict[str, Any]:
        groups = [{**group, "hosts": [ODD_HOST]} for group in document.get("instance_groups", ())]
        return {
            **document,
            "current_host": ODD_HOST,
            "hosts": [ODD_HOST],
            **({"instance_groups": groups} if groups else {}),
        }

    return replace(_changed(setup, "resourceconfig.json", rename), hostname=ODD_HOST)

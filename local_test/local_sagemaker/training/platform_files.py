"""The JSON documents that the platform puts below ``/opt/ml/input/config``.

Written from the platform's documentation ("How Amazon SageMaker AI Provides Training Information") and independently
of the code in the container that reads them, so that each is a check on the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from local_sagemaker.training.channels import Channel
from local_sagemaker.training.cluster import Cluster, plan_cluster


def input_data_config(channels: Iterable[Channel]) -> dict[str, dict[str, str]]:
    """Describe each channel as the platform does."""
    return {channel.name: channel.described() for channel in channels}


def resource_config(cluster: Cluster, current_host: str, network_interface_name: str) -> dict[str, Any]:
    """Describe the cluster with every key that a real job has; hosts are in lexicographic order."""
    group = cluster.group_of(current_host)
    return {
        "current_host": current_host,
        "current_instance_type": group.instance_type,
        "current_group_name": group.name,
        "hosts": list(cluster.hosts),
        "instance_groups": [
            {"instance_group_name": one.name, "instance_type": one.instance_type, "hosts": list(one.hosts)}
            for one in cluster.groups
        ],
        "network_interface_name": network_interface_name,
        "topology": None,
    }


def write_platform_files(
    config_dir: Path,
    hyperparameters: Mapping[str, str],
    channels: Iterable[Channel],
    network_interface_name: str,
    cluster: Cluster | None = None,
    current_host: str = "algo-1",
) -> None:
    """Write the three documents of one host into ``config_dir``, which is made if absent; by default it is alone."""
    config_dir.mkdir(parents=True, exist_ok=True)
    documents = {
        "hyperparameters.json": {key: str(value) for key, value in hyperparameters.items()},
        "inputdataconfig.json": input_data_config(channels),
        "resourceconfig.json": resource_config(cluster or plan_cluster(), current_host, network_interface_name),
    }
    for name, document in documents.items():
        (config_dir / name).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

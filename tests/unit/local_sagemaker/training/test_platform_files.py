"""The documents below /opt/ml/input/config."""

import json

from local_sagemaker.training.channels import Channel
from local_sagemaker.training.cluster import plan_cluster
from local_sagemaker.training.platform_files import write_platform_files


def written(directory, name):
    return json.loads((directory / name).read_text())


def test_resource_config_has_every_key_of_a_real_job(tmp_path):
    """Contract 2.9 to 2.11; hosts in lexicographic order."""
    write_platform_files(tmp_path, {}, (), "eth0", plan_cluster(10), current_host="algo-2")
    hosts = ["algo-1", "algo-10", *(f"algo-{number}" for number in range(2, 10))]
    assert written(tmp_path, "resourceconfig.json") == {
        "current_host": "algo-2",
        "current_instance_type": "local",
        "current_group_name": "homogeneousCluster",
        "hosts": hosts,
        "instance_groups": [{"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": hosts}],
        "network_interface_name": "eth0",
        "topology": None,
    }


def test_each_channel_is_described(tmp_path):
    """Contract 2.5."""
    write_platform_files(tmp_path, {}, (Channel("train"),), "eth0")
    assert written(tmp_path, "inputdataconfig.json") == {
        "train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    }


def test_a_job_without_hyperparameters_or_channels_has_empty_documents(tmp_path):
    """Contract 2.1 and 2.8."""
    write_platform_files(tmp_path, {}, (), "eth0")
    assert written(tmp_path, "hyperparameters.json") == {}
    assert written(tmp_path, "inputdataconfig.json") == {}

"""The SM_* environment and the arguments of the user's script, derived from the job.

Source: the variables of SageMaker's training toolkit, which scripts have come to rely on. A hyperparameter keeps the
token it was sent with wherever printing it again would change it.
"""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.training.accelerators import count_gpus, count_neurons
from sagemaker_byoc.training.entry_point import EntryPoint
from sagemaker_byoc.training.job import HOMOGENEOUS, TrainingJob

KERNEL_LIMIT = 128 * 1024  # Linux refuses to start a program with a longer variable or argument


def user_arguments(job: TrainingJob) -> list[str]:
    """`--name value` for each of the user's hyperparameters by name, `-n value` for names of one letter."""
    arguments: list[str] = []
    for hyperparameter in job.users_hyperparameters:
        dashes = "-" if len(hyperparameter.name) == 1 else "--"
        arguments += [dashes + hyperparameter.name, hyperparameter.argument]
    return arguments


def derive_environment(job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the user's script: this process's own, with every SM_* variable set."""
    properties = _properties(job, entry, environ)
    derived = {f"SM_{name.upper()}": _encode(value) for name, value in _published(properties).items()}
    derived["SM_USER_ARGS"] = _encode(user_arguments(job))
    derived["SM_TRAINING_ENV"] = _encode(properties)
    derived |= {f"SM_CHANNEL_{name.upper()}": path for name, path in job.channels.items()}
    for hyperparameter in job.users_hyperparameters:
        name = hyperparameter.name.upper()
        # A POSIX shell cannot read a name with a hyphen, so both forms are there.
        derived[f"SM_HP_{name}"] = hyperparameter.text
        derived.setdefault(f"SM_HP_{name.replace('-', '_')}", hyperparameter.text)
    return {**environ, **_side_variables(job, environ), **_without_nul(derived), "PYTHONUNBUFFERED": "1"}


def _published(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties under the names that their variables carry."""
    renamed = {
        "hyperparameters": "hps",
        "channel_input_dirs": "channels",
        "additional_framework_parameters": "framework_params",
    }
    hidden = {
        "is_master",
        "master_hostname",
        "job_name",
        "distribution_hosts",
        "is_modelparallel_enabled",
        "is_smddprun_installed",
        "is_smddpmprun_installed",
    }
    published = {renamed.get(name, name): value for name, value in properties.items() if name not in hidden}
    published["channels"] = sorted(properties["channel_input_dirs"])
    return published


def _properties(job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str]) -> dict[str, Any]:
    """Every property of the job, as SM_TRAINING_ENV holds them."""
    paths = job.paths
    properties: dict[str, Any] = {
        "additional_framework_parameters": job.framework_parameters,
        "channel_input_dirs": job.channels,
        "framework_module": environ.get("SAGEMAKER_TRAINING_MODULE"),
        "hyperparameters": {h.name: h.value for h in job.users_hyperparameters},
        "input_config_dir": str(paths.config),
        "input_data_config": dict(job.input_data_config),
        "input_dir": str(paths.input),
        "is_modelparallel_enabled": None,
        "is_smddpmprun_installed": False,
        "is_smddprun_installed": False,
        "job_name": job.name,
        "log_level": job.value("sagemaker_container_log_level") or logging.INFO,
        "model_dir": str(paths.model),
        "module_dir": str(job.value("sagemaker_submit_directory") or entry.folder),
        "module_name": entry.module_name,
        "network_interface_name": job.network_interface_name,
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": count_gpus(),
        "num_neurons": count_neurons(),
        "output_data_dir": str(paths.output_data),
        "output_dir": str(paths.output),
        "output_intermediate_dir": str(paths.output / "intermediate"),
        "resource_config": dict(job.resource_config),
        "user_entry_point": entry.name,
    }
    return properties | _cluster(job)


def _cluster(job: TrainingJob) -> dict[str, Any]:
    """Hosts and instance groups. The master is the first host of the groups that a distribution spans."""
    groups = {str(group.get("instance_group_name", HOMOGENEOUS)): group for group in job.instance_groups}
    chosen = job.value("sagemaker_distribution_instance_groups") or list(groups)
    spanned = [host for name in chosen for host in groups.get(name, {}).get("hosts", [])] or job.hosts
    current = groups.get(job.current_instance_group, {})
    cluster: dict[str, Any] = {
        "current_host": job.current_host,
        "current_instance_group": job.current_instance_group,
        "current_instance_group_hosts": list(current.get("hosts", job.hosts)),
        "current_instance_type": job.current_instance_type,
        "distribution_hosts": spanned,
        "distribution_instance_groups": list(chosen),
        "hosts": job.hosts,
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "is_master": job.current_host == min(spanned),
        "master_hostname": min(spanned),
    }
    topology = job.resource_config.get("topology")
    return {**cluster, "topology": topology} if topology else cluster


def _side_variables(job: TrainingJob, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "CURRENT_HOST": job.current_host,
        "SAGEMAKER_JOB_NAME": str(job.value("sagemaker_job_name") or job.name or ""),
        "SAGEMAKER_REGION": str(job.value("sagemaker_region") or environ.get("AWS_REGION") or ""),
    }


def _encode(value: Any) -> str:
    """A string as it is, None as nothing, all else as JSON with sorted keys."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def split_too_long(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that the kernel takes, and the names of those it refuses for their length."""
    sizes = {name: len(os.fsencode(name)) + len(os.fsencode(value)) + 2 for name, value in environ.items()}
    fitting = {name: value for name, value in environ.items() if sizes[name] <= KERNEL_LIMIT}
    return fitting, tuple(sorted(set(environ) - set(fitting)))


def _without_nul(variables: dict[str, str]) -> dict[str, str]:
    # An environment variable cannot hold a NUL; SM_HPS and argv's own check still show the value.
    return {name: value.replace("\0", "") for name, value in variables.items() if "=" not in name and "\0" not in name}

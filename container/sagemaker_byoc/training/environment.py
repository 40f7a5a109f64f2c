"""The SM_* environment and the arguments of the user's script, derived from the job.

Source: the variables of SageMaker's training toolkit, which scripts have come to rely on, and those that the drivers
of the SageMaker Python SDK v3 add. A hyperparameter keeps the token it was sent with wherever printing it again would
change it, unless the toolkit's own output is asked for.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from typing import Any

from sagemaker_byoc.accelerators import count_gpus, count_neurons
from sagemaker_byoc.training import toolkit_format
from sagemaker_byoc.training.entry_point import EntryPoint
from sagemaker_byoc.training.job import HOMOGENEOUS, Hyperparameter, TrainingJob, can_be_passed

KERNEL_LIMIT = 128 * 1024  # Linux refuses to start a program with a longer variable or argument
MASTER_PORT = "7777"
# Any of these makes the toolkit name the current instance group as one that the distribution spans.
DISTRIBUTIONS = (
    "sagemaker_mpi_enabled",
    "sagemaker_parameter_server_enabled",
    "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled",
    "sagemaker_pytorch_xla_multi_worker_enabled",
    "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
    "sagemaker_horovod_enabled",
)
# Properties that variables carry under another name, and those that SM_TRAINING_ENV alone holds.
RENAMED = {
    "hyperparameters": "hps",
    "channel_input_dirs": "channels",
    "additional_framework_parameters": "framework_params",
}
HIDDEN = frozenset(
    {
        "is_master",
        "master_hostname",
        "job_name",
        "distribution_hosts",
        "is_modelparallel_enabled",
        "is_smddprun_installed",
        "is_smddpmprun_installed",
    }
)


def user_arguments(job: TrainingJob, toolkit_compatible: bool = False) -> list[str]:
    """`--name value` for each of the user's hyperparameters by name, `-n value` for names of one letter."""
    arguments: list[str] = []
    for hyperparameter in job.users_hyperparameters:
        theirs = toolkit_format.argument(toolkit_format.decode(hyperparameter.token))
        keep = not toolkit_compatible or not can_be_passed(theirs)
        arguments += [_option(hyperparameter.name), hyperparameter.argument if keep else theirs]
    return arguments


def derive_environment(
    job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str], toolkit_compatible: bool = False
) -> dict[str, str]:
    """The environment of the user's script: this process's own, with every SM_* variable set.

    With `toolkit_compatible`, exactly the variables of SageMaker's training toolkit, in its own notation.
    """
    properties = _properties(job, entry, environ, toolkit_compatible)
    derived = {} if toolkit_compatible else _sdk_variables(job, entry, environ, properties["master_hostname"])
    derived |= {f"SM_{name.upper()}": _encode(value) for name, value in _published(properties).items()}
    derived["SM_USER_ARGS"] = _encode(user_arguments(job, toolkit_compatible))
    derived["SM_TRAINING_ENV"] = _encode(properties)
    if toolkit_compatible:
        derived |= {f"SM_CHANNEL_{name.upper()}": job.channels[name] for name in job.input_data_config}
        derived |= {f"SM_HP_{h.name.upper()}": toolkit_format.text(_value(h, compatible=True)) for h in _as_sent(job)}
    else:
        derived |= _named("SM_CHANNEL_", job.channels)
        derived |= _named("SM_HP_", {h.name: h.text for h in job.users_hyperparameters})
    meeting = {} if toolkit_compatible else _meeting_variables(job, derived)
    return {**meeting, **environ, **_side_variables(job, environ), **_possible(derived), "PYTHONUNBUFFERED": "1"}


def collisions(job: TrainingJob) -> tuple[str, ...]:
    """A sentence for each variable that several names become, saying whose value it holds."""
    hyperparameters = {h.name: h.text for h in job.users_hyperparameters}
    return (
        *_collisions("hyperparameters", "SM_HP_", hyperparameters, "the arguments of the script hold them all"),
        *_collisions("channels", "SM_CHANNEL_", job.channels, "SM_TRAINING_ENV holds them all"),
    )


def split_too_long(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that the kernel takes, and the names of those it refuses for their length."""
    sizes = {name: len(os.fsencode(name)) + len(os.fsencode(value)) + 2 for name, value in environ.items()}
    fitting = {name: value for name, value in environ.items() if sizes[name] <= KERNEL_LIMIT}
    return fitting, tuple(sorted(set(environ) - set(fitting)))


def _option(name: str) -> str:
    if not name:
        return ""
    shown = name if can_be_passed(name) else json.dumps(name)[1:-1]
    return ("-" if len(name) == 1 else "--") + shown


def _named(prefix: str, values: Mapping[str, str]) -> dict[str, str]:
    """Variables for names as they are, and with underscores for what a POSIX shell cannot read; the former win."""
    exact = {prefix + name.upper(): value for name, value in values.items()}
    return {prefix + _readable(name): value for name, value in values.items()} | exact


def _readable(name: str) -> str:
    return re.sub(r"\W", "_", name.upper())


def _collisions(kind: str, prefix: str, values: Mapping[str, str], elsewhere: str) -> list[str]:
    sharing: dict[str, list[str]] = {}
    for name in sorted(values):
        for variable in {prefix + name.upper(), prefix + _readable(name)}:
            sharing.setdefault(variable, []).append(name)
    exact = {prefix + name.upper(): name for name in values}
    return [
        f"{kind} {' and '.join(map(repr, names))} all become {variable}, which holds the value of "
        f"{exact.get(variable, names[-1])!r}; {elsewhere}."
        for variable, names in sorted(sharing.items())
        if len(names) > 1
    ]


def _as_sent(job: TrainingJob) -> list[Hyperparameter]:
    """The user's hyperparameters as their document has them: the toolkit lets the last of equal names win."""
    return [h for h in job.hyperparameters.values() if h.is_users]


def _value(hyperparameter: Hyperparameter, compatible: bool) -> Any:
    return toolkit_format.decode(hyperparameter.token) if compatible else hyperparameter.value


def _published(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties under the names that their variables carry."""
    published = {RENAMED.get(name, name): value for name, value in properties.items() if name not in HIDDEN}
    published["channels"] = sorted(properties["channel_input_dirs"])
    if not published["topology"]:
        del published["topology"]
    return published


def _properties(job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str], compatible: bool) -> dict[str, Any]:
    """Every property of the job, as SM_TRAINING_ENV holds them."""
    paths = job.paths
    properties: dict[str, Any] = {
        "additional_framework_parameters": {h.name: _value(h, compatible) for h in job.framework_hyperparameters},
        "channel_input_dirs": job.channels,
        "framework_module": environ.get("SAGEMAKER_TRAINING_MODULE"),
        "hyperparameters": {h.name: _value(h, compatible) for h in job.users_hyperparameters},
        "input_config_dir": str(paths.config),
        "input_data_config": dict(job.input_data_config),
        "input_dir": str(paths.input),
        "is_modelparallel_enabled": _model_parallel(environ),
        "is_smddpmprun_installed": shutil.which("smddpmprun") is not None,
        "is_smddprun_installed": shutil.which("smddprun") is not None,
        "job_name": job.name,
        "log_level": _log_level(job, environ, compatible),
        "model_dir": str(paths.model),
        "module_dir": _module_dir(job, entry, environ, compatible),
        "module_name": entry.module_name,
        "network_interface_name": job.network_interface_name,
        "num_cpus": os.cpu_count() or 1,
        "num_gpus": count_gpus(),
        "num_neurons": count_neurons(job.current_instance_type),
        "output_data_dir": str(paths.output_data),
        "output_dir": str(paths.output),
        "output_intermediate_dir": str(paths.output / "intermediate"),
        "resource_config": dict(job.resource_config),
        "topology": job.resource_config.get("topology", []),
        "user_entry_point": entry.name,
    }
    return properties | _cluster(job, compatible)


def _model_parallel(environ: Mapping[str, str]) -> Any:
    parameters = environ.get("SM_HP_MP_PARAMETERS")
    return parameters and parameters != "{}"


def _log_level(job: TrainingJob, environ: Mapping[str, str], compatible: bool) -> Any:
    sent = job.value("sagemaker_container_log_level")
    if sent is not None:
        return sent
    text = environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "").strip()
    return int(text) if text.isdecimal() and not compatible else logging.INFO


def _module_dir(job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str], compatible: bool) -> str:
    """Where the source came from. The toolkit forgets what its own variable said."""
    sent = job.value("sagemaker_submit_directory")
    if compatible:
        return str(sent if "sagemaker_submit_directory" in job.hyperparameters else job.paths.code)
    return str(environ.get("SAGEMAKER_SUBMIT_DIRECTORY") or sent or entry.folder)


def _cluster(job: TrainingJob, compatible: bool) -> dict[str, Any]:
    """Hosts and instance groups. The master is the first host of the groups that a distribution spans.

    Without groups in its input, as in a local run, the toolkit reports none; here all hosts are one group.
    """
    none_sent = not job.resource_config.get("instance_groups")
    sent = [] if compatible and none_sent else job.instance_groups
    groups = {str(group.get("instance_group_name", HOMOGENEOUS)): group for group in sent}
    chosen = _spanned_groups(job)
    spanned = [host for name, group in groups.items() if name in chosen for host in group.get("hosts", [])]
    spanned = list(job.hosts) if none_sent else spanned
    candidates = spanned or job.hosts
    master = candidates[0] if compatible else min(candidates)
    current = groups.get(job.current_instance_group, {})
    return {
        "current_host": job.current_host,
        "current_instance_group": job.current_instance_group,
        "current_instance_group_hosts": list(current.get("hosts", [])),
        "current_instance_type": job.current_instance_type,
        "distribution_hosts": spanned,
        "distribution_instance_groups": chosen,
        "hosts": job.hosts,
        "instance_groups": list(groups),
        "instance_groups_dict": groups,
        "is_hetero": len(groups) > 1,
        "is_master": job.current_host == master,
        "master_hostname": master,
    }


def _spanned_groups(job: TrainingJob) -> Any:
    """The groups that the job names for its distribution, else the current one if there is a distribution."""
    named = job.value("sagemaker_distribution_instance_groups")
    if named is not None:
        return [named] if isinstance(named, str) else named
    return [job.current_instance_group] if any(job.value(name) for name in DISTRIBUTIONS) else []


def _sdk_variables(job: TrainingJob, entry: EntryPoint, environ: Mapping[str, str], master: str) -> dict[str, str]:
    """What the drivers of the SageMaker Python SDK v3 set beside the toolkit's variables."""
    return {
        "SM_CURRENT_HOST_RANK": str(sorted(job.hosts).index(job.current_host)),
        "SM_ENTRY_SCRIPT": entry.name,
        "SM_HOST_COUNT": str(len(job.hosts)),
        "SM_INPUT_DATA_DIR": str(job.paths.data),
        "SM_MASTER_ADDR": master,
        "SM_MASTER_PORT": environ.get("BYOC_MASTER_PORT") or MASTER_PORT,
        "SM_OUTPUT_FAILURE": str(job.paths.failure),
        "SM_SOURCE_DIR": str(entry.folder),
    }


def _meeting_variables(job: TrainingJob, derived: Mapping[str, str]) -> dict[str, str]:
    """Where processes of several hosts meet, for scripts that form PyTorch's process group themselves.

    SageMaker's PyTorch images set them. On one host a script chooses its own, and a port of ours might be in use.
    """
    if len(job.hosts) == 1:
        return {}
    return {name: derived[f"SM_{name}"] for name in ("MASTER_ADDR", "MASTER_PORT")}


def _side_variables(job: TrainingJob, environ: Mapping[str, str]) -> dict[str, str]:
    region = job.value("sagemaker_region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    return {
        "CURRENT_HOST": job.current_host,
        "SAGEMAKER_JOB_NAME": str(job.value("sagemaker_job_name") or job.name or ""),
        "SAGEMAKER_REGION": str(region or environ.get("SAGEMAKER_REGION") or ""),
    }


def _encode(value: Any) -> str:
    return toolkit_format.text(value)


def _possible(variables: Mapping[str, str]) -> dict[str, str]:
    """Without the names that no variable can have; SM_HPS and the arguments still show those values."""
    return {
        name: value if can_be_passed(value) else json.dumps(value)
        for name, value in variables.items()
        if "=" not in name and can_be_passed(name)
    }

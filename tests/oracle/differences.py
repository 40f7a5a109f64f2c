"""The reviewed list: each difference from the toolkit that is meant, when it applies, and why it is there.

`python -m tests.oracle.differences` prints it as the table of docs/reference/differences-from-the-toolkit.md.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.oracle.compare import ABSENT, Observed

SDK_NAMES = "CURRENT_HOST_RANK|ENTRY_SCRIPT|HOST_COUNT|INPUT_DATA_DIR|MASTER_ADDR|MASTER_PORT|OUTPUT_FAILURE|SOURCE_DIR"
GROUPS = "current_instance_group_hosts|instance_groups|instance_groups_dict"


@dataclass(frozen=True)
class Difference:
    """One row. `fields` matches the names of compare.Observed; `always`: in the compatible mode too."""

    fields: str
    applies: Callable[[Observed], bool]
    what: str
    toolkit: str
    here: str
    why: str
    always: bool = False

    def explains(self, observed: Observed, compatible: bool) -> bool:
        """Whether this row is the reason of what was observed."""
        return (
            (self.always or not compatible)
            and re.fullmatch(self.fields, observed.field) is not None
            and self.applies(observed)
        )


def _token(observed: Observed) -> str | None:
    """The token of the one hyperparameter that a field is about, as the job's document has it."""
    name = re.fullmatch(r"argv\[\d+:--?(.+)\]|env\[SM_HP_(.*)\]", observed.field, re.DOTALL)
    if name is None:
        return None
    sent = observed.case.hyperparameters
    exact = [n for n in sent if n == name[1] or n.upper() == name[2]]
    found = exact or [n for n in sent if _readable(n) == name[2]]
    if len(found) != 1:
        return None
    value = sent[found[0]]
    return value if isinstance(value, str) else json.dumps(value)


def _keeps_token(observed: Observed) -> bool:
    token = _token(observed)
    if token is None or observed.ours != token:
        return False
    try:
        value = json.loads(token)
    except ValueError:
        return False
    again = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return observed.toolkit in ({"", again} if observed.field.startswith("env") else {"", str(value)})


def _readable(name: str) -> str:
    return re.sub(r"\W", "_", name.upper())


def _is_readable_name(observed: Observed) -> bool:
    kind, name = re.fullmatch(r"env\[SM_(HP|CHANNEL)_(.*)\]", observed.field, re.DOTALL).groups()  # type: ignore[union-attr]  # the field matched
    names = observed.case.hyperparameters if kind == "HP" else observed.case.channels
    return observed.toolkit == ABSENT and any(_readable(n) == name != n.upper() for n in names)


def _is_collision(observed: Observed) -> bool:
    """Several names, of which the last one by name has its value in ours."""
    name = re.fullmatch(r"env\[SM_(HP|CHANNEL)_(.*)\]", observed.field, re.DOTALL)
    if name is None:
        return False
    sent = observed.case.hyperparameters if name[1] == "HP" else observed.case.channels
    sharing = sorted(n for n in sent if n.upper() == name[2])
    if len(sharing) < 2:
        return False
    winner = sharing[-1]
    return observed.ours.endswith(f"/{winner}") if name[1] == "CHANNEL" else observed.ours in _texts(sent[winner])


def _texts(token: str) -> set[str]:
    """A token, and the text it stands for where it is a string in JSON."""
    try:
        return {token, *filter(lambda value: isinstance(value, str), [json.loads(token)])}
    except ValueError:
        return {token}


def _has_no_number(observed: Observed) -> bool:
    return re.search(r"\bnan\b|\binf\b|NaN|Infinity", str(observed.toolkit)) is not None


def _no_groups(observed: Observed) -> bool:
    return not observed.case.resource_config.get("instance_groups")


def _unsorted_groups(observed: Observed) -> bool:
    groups = observed.case.resource_config.get("instance_groups", [])
    return any(group["hosts"] != sorted(group["hosts"]) for group in groups)


def _did_not_start(cause: Callable[[Observed], Any]) -> Callable[[Observed], bool]:
    return lambda observed: observed.toolkit is False and observed.ours is True and bool(cause(observed))


def _values(observed: Observed) -> str:
    return "".join(str(value) for value in observed.case.hyperparameters.values())


DIFFERENCES = (
    Difference(
        r"argv\[.*\]|env\[SM_HP_.*\]",
        _keeps_token,
        "a hyperparameter that is JSON",
        "decoded and printed again: `1.10` becomes `1.1`, `1e5` `100000.0`, `null` nothing, a list Python's notation",
        "the token as it was sent",
        "printing again changes values; a path `1e5` or a version `1.10` must stay what it was",
    ),
    Difference(
        r"env\[SM_HPS\]|training_env\[hyperparameters\]",
        _has_no_number,
        "`NaN`, `Infinity`, `1e999` in `SM_HPS` and `SM_TRAINING_ENV`",
        "numbers that no JSON parser but Python's reads",
        "strings",
        "both variables are read by other languages too",
    ),
    Difference(
        r"env\[SM_(HP|CHANNEL)_.*\]",
        _is_readable_name,
        "names with hyphens, dots and other signs",
        "`SM_HP_BATCH-SIZE` alone",
        "`SM_HP_BATCH_SIZE` beside it; for channels likewise",
        "a POSIX shell cannot read the former",
    ),
    Difference(
        r"env\[SM_(HP|CHANNEL)_.*\]",
        _is_collision,
        "`lr` and `LR`, which both become `SM_HP_LR`; channels likewise",
        "the last one in the document wins, without a word",
        "the one that sorts last wins (`lr`), with a warning",
        "the platform promises no order; the same job should give the same variable",
    ),
    Difference(
        rf"env\[SM_({SDK_NAMES})\]",
        lambda o: o.toolkit == ABSENT,
        "`SM_HOST_COUNT`, `SM_MASTER_ADDR`, `SM_SOURCE_DIR` and five more",
        "absent",
        "set as the drivers of the SageMaker Python SDK v3 set them",
        "scripts written for `ModelTrainer` run here too",
    ),
    Difference(
        r"env\[MASTER_(ADDR|PORT)\]",
        lambda o: o.toolkit == ABSENT and len(o.case.resource_config.get("hosts", ())) > 1,
        "`MASTER_ADDR` and `MASTER_PORT`, where a job has several hosts",
        "absent",
        "the first host and a port, unless the job sets them",
        "SageMaker's PyTorch images set them, and scripts that call `init_process_group` need them",
    ),
    Difference(
        rf"env\[SM_({GROUPS.upper()})\]|training_env\[({GROUPS})\]",
        _no_groups,
        "instance groups, where `resourceconfig.json` has none, as in local mode",
        "no group, although the current one is called `homogeneousCluster`",
        "one group of that name with all hosts",
        "a script finds the same on its own machine and on the platform",
    ),
    Difference(
        r"training_env\[(master_hostname|is_master)\]",
        _unsorted_groups,
        "the master of a group whose hosts are not in order",
        "the first in the list",
        "the first by name",
        "`hosts` is sorted by name, and every other part of a job takes its first host for the leader",
    ),
    Difference(
        r"(env\[SM_LOG_LEVEL|training_env\[log_level)\]",
        lambda o: str(o.ours) == o.case.environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL"),
        "`SAGEMAKER_CONTAINER_LOG_LEVEL`",
        "read and forgotten: the hyperparameter or 20",
        "honoured where there is no hyperparameter",
        "a documented variable should have its effect",
    ),
    Difference(
        r"(env\[SM_MODULE_DIR|training_env\[module_dir)\]",
        lambda o: "SAGEMAKER_SUBMIT_DIRECTORY" in o.case.environ,
        "`SM_MODULE_DIR` with `SAGEMAKER_SUBMIT_DIRECTORY`",
        "`/opt/ml/code`, as the variable is read and forgotten",
        "what the variable says",
        "a documented variable should have its effect",
    ),
    Difference(
        r"origin|cwd",
        lambda o: o.case.has_source and "ml/code" in o.case.code,
        "uploaded source, where `/opt/ml/code` has content",
        "not fetched; the old code runs",
        "fetched into a folder of its own, and run there",
        "what the job names is what should run",
        always=True,
    ),
    Difference(
        r"cwd",
        lambda o: o.ours.endswith("/given") and o.case.code == ("given",),
        "source in a folder of the container",
        "copied to `/opt/ml/code`",
        "run where it lies",
        "a copy takes time and room, and fails on a read-only file system",
        always=True,
    ),
    Difference(
        r"argv0",
        lambda o: o.ours.startswith("/") and o.ours.endswith("/" + o.toolkit),
        "`sys.argv[0]`",
        "the script's name",
        "its whole path",
        "it stays right when the script changes its folder, and in a list of processes",
        always=True,
    ),
    Difference(
        r"env\[PYTHONPATH\]",
        lambda o: o.ours == ABSENT and "/site-packages" in o.toolkit,
        "`PYTHONPATH`",
        "the launcher's whole `sys.path`, standard library included",
        "as the job sets it",
        "another interpreter that the script starts would load this one's standard library",
        always=True,
    ),
    Difference(
        r"env\[SAGEMAKER_JOB_NAME\]",
        lambda o: o.toolkit == "" and o.ours == o.case.environ.get("TRAINING_JOB_NAME"),
        "`SAGEMAKER_JOB_NAME` without the hyperparameter `sagemaker_job_name`",
        "empty",
        "`TRAINING_JOB_NAME`",
        "the platform does say the name",
        always=True,
    ),
    Difference(
        r"env\[SAGEMAKER_REGION\]",
        lambda o: o.toolkit == "" and o.ours == o.case.environ.get("AWS_REGION"),
        "`SAGEMAKER_REGION` without the hyperparameter `sagemaker_region`",
        "`AWS_DEFAULT_REGION`",
        "`AWS_REGION`, else `AWS_DEFAULT_REGION`",
        "the platform sets the former",
        always=True,
    ),
    Difference(
        r"started",
        _did_not_start(lambda o: len(o.case.documents) < 3 or "hosts" not in o.case.resource_config),
        "a document or `hosts` is missing",
        "ends before the script starts",
        "takes it for empty: no hyperparameters, no channels, one host",
        "a job started by hand needs no documents that say nothing",
        always=True,
    ),
    Difference(
        r"started",
        _did_not_start(lambda o: any("=" in name for name in o.case.hyperparameters)),
        "a hyperparameter whose name has an equals sign",
        "ends before the script starts",
        "it is in the arguments and in `SM_HPS`, and its variable has an underscore instead",
        "one odd name should not cost the job",
        always=True,
    ),
    Difference(
        r"started",
        _did_not_start(lambda o: re.search(r"\\u0000|\\ud[89a-f]", _values(o))),
        "a value with a NUL or half a character",
        "ends before the script starts",
        "the script gets the value with its JSON escapes",
        "no program can be given such a text, and its token can",
        always=True,
    ),
    Difference(
        r"started",
        _did_not_start(lambda o: "[" * 1000 in _values(o)),
        "a value nested more deeply than Python reads",
        "ends before the script starts",
        "the value is a string",
        "the script may well have a parser for it",
        always=True,
    ),
    Difference(
        r"started",
        _did_not_start(lambda o: "SAGEMAKER_TRAINING_MODULE" in o.case.environ),
        "`SAGEMAKER_TRAINING_MODULE` with a module of the code folder",
        "not found: only installed modules are; and no arguments or `SM_*` for those",
        "found, run as a process of its own with arguments and `SM_*`",
        "a function should be given what a script is given",
        always=True,
    ),
)


def table() -> str:
    """The list in Markdown."""
    head = "| what | the toolkit | here | why | with `BYOC_COMPATIBILITY=toolkit` |\n|---|---|---|---|---|\n"
    return head + "".join(
        f"| {row.what} | {row.toolkit} | {row.here} | {row.why} | {'as here' if row.always else 'as the toolkit'} |\n"
        for row in DIFFERENCES
    )


if __name__ == "__main__":
    print(table(), end="")

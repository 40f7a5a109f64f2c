"""What a tuning job takes over from earlier ones of the same project: its parents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from local_sagemaker.errors import ResourceNotFoundError, ValidationError
from local_sagemaker.state.records import Kind, Record
from local_sagemaker.tuning.definitions import Definition, read_definitions
from local_sagemaker.tuning.search import Observation
from local_sagemaker.tuning.standing import best_of, definition_of, objective_of, summarize, training_jobs

if TYPE_CHECKING:
    from local_sagemaker.state.workspace import Workspace

# How many of the parents' best configurations are tried first where their objectives cannot be compared.
TRANSFERRED_JOBS = 3


def parent_names(request: Mapping[str, Any]) -> list[str]:
    """The names of a request's parents."""
    parents = (request.get("WarmStartConfig") or {}).get("ParentHyperParameterTuningJobs") or ()
    return [one["HyperParameterTuningJobName"] for one in parents if "HyperParameterTuningJobName" in one]


def is_identical(request: Mapping[str, Any]) -> bool:
    """Whether the parents had the same data and algorithm, so that their objectives are this job's too."""
    return bool((request.get("WarmStartConfig") or {}).get("WarmStartType") == "IdenticalDataAndAlgorithm")


def check_parents(workspace: Workspace, request: Mapping[str, Any], definitions: tuple[Definition, ...]) -> None:
    """Check that every parent can be taken over from.

    Raises:
        ValidationError: in the service's manner, naming the parent.
    """
    for name in parent_names(request):
        try:
            parent = workspace.store.get(Kind.TUNING_JOB, name)
        except ResourceNotFoundError as error:
            raise ValidationError(
                f"The parent tuning job {name} of WarmStartConfig does not exist.", "see `byoc ps --all`"
            ) from error
        if not parent.is_final:
            raise ValidationError(
                f"The parent tuning job {name} is {parent.status}; a parent must have ended.", "wait for it, or stop it"
            )
        theirs = read_definitions(parent.request)
        if (theirs[0].metric, theirs[0].is_maximized) != (definitions[0].metric, definitions[0].is_maximized):
            raise ValidationError(
                f"The parent tuning job {name} has the objective {theirs[0].metric!r}; a child must have the same "
                "objective metric and type.",
                "take the parent's objective",
            )
        if is_identical(request):
            _check_identical(name, theirs, definitions)


def observations(workspace: Workspace, request: Mapping[str, Any]) -> list[Observation]:
    """What the parents' training jobs got, the oldest first; jobs without an objective are left out."""
    found = []
    for name in parent_names(request):
        parent = workspace.store.get(Kind.TUNING_JOB, name)
        definitions = read_definitions(parent.request)
        for job in training_jobs(workspace, name):
            objective = objective_of(job, definition_of(job, definitions).metric)
            if objective is not None:
                found.append(Observation(_hyperparameters(job), objective))
    return found


def transferred(known: list[Observation], definition: Definition) -> list[Mapping[str, str]]:
    """The best of the parents' configurations, best first."""
    ranked = sorted(known, key=lambda one: one.objective, reverse=definition.is_maximized)
    return [one.values for one in ranked[:TRANSFERRED_JOBS]]


def overall_best(workspace: Workspace, record: Record, best: dict[str, Any] | None) -> dict[str, Any] | None:
    """The best training job of a tuning job and its parents, where these had the same data and algorithm."""
    if not is_identical(record.request):
        return None
    candidates = [] if best is None else [best]
    for name in parent_names(record.request):
        if not workspace.store.find(Kind.TUNING_JOB, name):
            continue  # deleted meanwhile
        definitions = read_definitions(workspace.store.get(Kind.TUNING_JOB, name).request)
        summaries = [summarize(job, definitions) for job in training_jobs(workspace, name)]
        candidates += [{**one, "TuningJobName": name} for one in filter(None, [best_of(summaries, definitions)])]
    return best_of(candidates, read_definitions(record.request))


def _check_identical(parent: str, theirs: tuple[Definition, ...], ours: tuple[Definition, ...]) -> None:
    for what, read in (("training image", _image), ("input data", _data)):
        if [read(one) for one in theirs] != [read(one) for one in ours]:
            raise ValidationError(
                f"The {what} of the parent tuning job {parent} is another one; WarmStartType is "
                "IdenticalDataAndAlgorithm.",
                "take WarmStartType TransferLearning",
            )


def _image(definition: Definition) -> object:
    algorithm = definition.document["AlgorithmSpecification"]
    return algorithm.get("TrainingImage") or algorithm.get("AlgorithmName")


def _data(definition: Definition) -> object:
    return definition.document.get("InputDataConfig")


def _hyperparameters(record: Record) -> Mapping[str, str]:
    values: Mapping[str, str] = record.description.get("HyperParameters") or record.request.get("HyperParameters", {})
    return values

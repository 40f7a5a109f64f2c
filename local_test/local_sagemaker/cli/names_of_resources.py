"""The argument that names a resource, which a shell can complete, and the option that says its kind."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from local_sagemaker.errors import LocalSageMakerError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from local_sagemaker.state.workspace import Workspace

    Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

KINDS = [
    "TrainingJob",
    "ProcessingJob",
    "TransformJob",
    "HyperParameterTuningJob",
    "Model",
    "EndpointConfig",
    "Endpoint",
]
kind_option = click.option(
    "--kind", type=click.Choice(KINDS, case_sensitive=False), help="Where several kinds have the same name."
)


def complete_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names that begin like this, with kind and status; none where there is no project."""
    return _complete(context, incomplete, KINDS)


def names_of(*kinds: str) -> Completion:
    """A completion by the names of these kinds only."""
    return lambda context, _parameter, incomplete: _complete(context, incomplete, kinds)


def complete_alarms(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of alarms that begin like this."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - for completion alone

    from local_sagemaker.hosting.alarms import AlarmBook  # noqa: PLC0415

    with suppress(LocalSageMakerError):
        names = AlarmBook.of(_workspace(context)).alarms()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []


def _complete(context: click.Context, incomplete: str, kinds: Collection[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - for completion alone

    with suppress(LocalSageMakerError):  # a shell that completes has no place for an error
        workspace = _workspace(context)
        records = workspace.store.find() if workspace.database.exists() else []
        return [
            CompletionItem(record.name, help=f"{record.kind.words} {record.status}".strip())
            for record in records
            if record.kind in kinds and record.name.startswith(incomplete)
        ]
    return []


def _workspace(context: click.Context) -> Workspace:
    from local_sagemaker.state.workspace import Workspace  # noqa: PLC0415

    return Workspace.of(Path(context.params.get("project") or "."))


name_argument = click.argument("name", shell_complete=complete_names)

"""The argument that names a resource, which a shell can complete, and the option that says its kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

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
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - for completion alone

    from local_sagemaker.state.workspace import Workspace  # noqa: PLC0415

    root = Path(context.params.get("project") or ".")
    workspace = Workspace(root.expanduser().resolve())
    if not workspace.database.exists():
        return []
    return [
        CompletionItem(record.name, help=f"{record.kind.words} {record.status}".strip())
        for record in workspace.store.find()
        if record.name.startswith(incomplete)
    ]


name_argument = click.argument("name", shell_complete=complete_names)

"""A group of verbs that imports a verb's module when the verb is asked for, so that no verb pays for the others."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """Verbs by name, each with the ``module:attribute`` that holds its command and the line that help shows."""

    def __init__(self, *args: Any, verbs: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """The verbs in the order of the table."""
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb."""
        if cmd_name not in self._verbs:
            return None
        module, _, attribute = self._verbs[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The table of verbs, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._verbs.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs that begin like this, without importing any, and the group's own options."""
        verbs = [
            CompletionItem(name, help=line) for name, (_, line) in self._verbs.items() if name.startswith(incomplete)
        ]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def commands_by_path(self, *above: str) -> dict[str, click.Command]:
        """Every verb below this group by its whole path, as ``endpoint weights``."""
        found: dict[str, click.Command] = {}
        with click.Context(self) as context:
            for name in self.list_commands(context):
                command = self.get_command(context, name)
                if isinstance(command, LazyGroup):
                    found |= command.commands_by_path(*above, name)
                elif isinstance(command, click.Group):
                    found |= {" ".join((*above, name, verb)): below for verb, below in command.commands.items()}
                elif command is not None:
                    found[" ".join((*above, name))] = command
        return found

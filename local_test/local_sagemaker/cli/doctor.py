"""``byoc doctor``."""

from __future__ import annotations

from dataclasses import asdict

import click

from local_sagemaker import doctor as checks_of_machine
from local_sagemaker.cli.options import json_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.errors import EngineMissingError


@click.command(cls=Verb, examples=("byoc doctor",))
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has and lacks."""
    checks = checks_of_machine.examine()
    engines = checks_of_machine.usable_engines(checks)
    lines = [f"{'ok     ' if c.ok else 'MISSING'} {c.name:15} {c.found}" for c in checks]
    lines += [f"to do: {c.name} ({c.needed_for}): {c.next_step}" for c in checks if not c.ok]
    emit(
        {"usable_engines": engines, "checks": [asdict(c) for c in checks]},
        as_json,
        *lines,
        f"usable engines: {', '.join(engines) or 'none'}",
    )
    if not engines:
        raise EngineMissingError(
            "no engine can run here", "expected docker or process to be usable", "see `byoc doctor`"
        )

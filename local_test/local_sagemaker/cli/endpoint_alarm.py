"""``byoc endpoint alarm``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from local_sagemaker.cli.endpoint_common import open_workspace
from local_sagemaker.cli.names_of_resources import complete_alarms
from local_sagemaker.cli.number import Number
from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.alarms import Alarm, AlarmBook, Statistic


@click.command(
    cls=Verb,
    examples=(
        "byoc endpoint alarm errors --error-rate 0.05 --over 30",
        "byoc endpoint alarm slow --latency 200 --statistic p90",
    ),
)
@click.argument("name", required=False, shell_complete=complete_alarms)
@click.option("--error-rate", type=Number(0, 1), metavar="SHARE", help="Fires above this share of failures.")
@click.option("--latency", type=Number(min=0), metavar="MS", help="Fires above this latency.")
@click.option(
    "--statistic", type=click.Choice(get_args(Statistic)), default="p99", show_default=True, help="Of the latencies."
)
@click.option("--over", type=Number(1, 900), default=60.0, show_default=True, help="Seconds looked back.")
@click.option(
    "--requests", type=click.IntRange(min=1), default=10, show_default=True, help="Fewer in that time say nothing."
)
@click.option("--variant", help="Only this one; by default each that an update brings.")
@click.option("--remove", is_flag=True, help="Forget the alarm.")
@project_option
@json_option
def alarm(  # noqa: PLR0917 - click passes each by name
    name: str | None,
    error_rate: float | None,
    latency: float | None,
    statistic: Statistic,
    over: float,
    requests: int,
    variant: str | None,
    remove: bool,
    project: Path,
    as_json: bool,
) -> None:
    """Define alarm NAME, which an update names to be rolled back by it; without NAME list all."""
    book = AlarmBook.of(open_workspace(project))
    if name is None and remove:
        raise UsageError("--remove without a name", "expected an alarm", "write `byoc endpoint alarm NAME --remove`")
    if name is not None and remove:
        book.remove(name)
    elif name is not None:
        if (error_rate is None) == (latency is None):
            raise UsageError(
                f"alarm {name} has {'two limits' if latency is not None else 'no limit'}",
                "expected --error-rate or --latency",
                "give one of them",
            )
        if error_rate is not None:
            book.put(Alarm(name, "error-rate", error_rate, statistic, over, requests, variant))
        else:
            book.put(Alarm(name, "latency", float(latency or 0), statistic, over, requests, variant))
    alarms = book.alarms()
    emit({"Alarms": [asdict(one) for one in alarms.values()]}, as_json, *map(_line, alarms.values()))


def _line(one: Alarm) -> str:
    what = f"{one.above:.1%} errors" if one.metric == "error-rate" else f"{one.statistic} latency {one.above:g} ms"
    where = f"variant {one.variant}" if one.variant else "any new variant"
    return f"{one.name}: more than {what} in {one.window_seconds:g} s, from {one.requests} requests on, {where}"

"""``byoc endpoint``: endpoints that stay, with several variants behind one port."""

from __future__ import annotations

import click

from local_sagemaker.cli.lazy import LazyGroup

ROOM = "local_sagemaker.cli"
VERBS = {
    "create": (f"{ROOM}.endpoint_create:create", "Bring an endpoint into service."),
    "update": (f"{ROOM}.endpoint_create:update", "Replace an endpoint's fleet, all at once or in steps."),
    "config": (f"{ROOM}.endpoint_create:config", "Make an endpoint configuration, for an update later."),
    "weights": (f"{ROOM}.endpoint_change:weights", "Change the variants' parts of the traffic."),
    "scale": (f"{ROOM}.endpoint_change:scale", "Change the variants' numbers of instances."),
    "start": (f"{ROOM}.endpoint_change:start", "Start an endpoint again whose process is gone."),
    "delete": (f"{ROOM}.endpoint_change:delete", "Answer what is in flight, and remove an endpoint."),
    "wait": (f"{ROOM}.endpoint_show:wait", "Wait until nothing is under way."),
    "describe": (f"{ROOM}.endpoint_show:describe", "Say how an endpoint is."),
    "ls": (f"{ROOM}.endpoint_show:ls", "List the endpoints."),
    "alarm": (f"{ROOM}.endpoint_alarm:alarm", "Define alarms that roll an update back."),
    "compare": (f"{ROOM}.endpoint_compare:compare", "Compare two variants, with a decision."),
}


@click.group(cls=LazyGroup, verbs=VERBS)
def endpoint() -> None:
    """Endpoints of a project: created, updated and compared as on SageMaker, each a process in the background."""

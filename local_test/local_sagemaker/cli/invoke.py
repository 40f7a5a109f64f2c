"""``byoc invoke``."""

from __future__ import annotations

import json
import sys
import uuid
from pathlib import Path

import click

from local_sagemaker.cli.endpoint_common import which
from local_sagemaker.cli.names_of_resources import names_of
from local_sagemaker.cli.number import SECONDS
from local_sagemaker.cli.options import project_option
from local_sagemaker.cli.verb import Verb
from local_sagemaker.content_types import CONTENT_TYPES, content_type_of
from local_sagemaker.errors import JobFailedError, UsageError
from local_sagemaker.hosting.endpoint import INVOCATION_SECONDS
from local_sagemaker.hosting.endpoint import invoke as invoke_container
from local_sagemaker.hosting.invocation import (
    InvocationOptions,
    InvocationReply,
    invoke_endpoint,
    invoke_endpoint_async,
)
from local_sagemaker.hosting.journal import read_url
from local_sagemaker.hosting.repetition import VARIANT_HEADER, Repetition, send_many
from local_sagemaker.progress import say
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace

INLINE_BYTES = 128_000
NEW_SESSION_HEADER = "x-amzn-sagemaker-new-session-id"


@click.command(
    cls=Verb,
    examples=(
        "byoc invoke image.json",
        "byoc invoke image.json --endpoint digits --variant blue",
        "byoc invoke image.json --endpoint digits --repeat 500 --concurrency 8",
    ),
)
@click.argument("payload", metavar="FILE|-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="A container that `byoc serve` runs.")
@click.option(
    "--endpoint",
    metavar="NAME",
    shell_complete=names_of("Endpoint"),
    help="An endpoint of the project, instead of --url.",
)
@click.option("--content-type", help="By default guessed from the file's suffix: .json .jsonl .csv .npy.")
@click.option("--accept", help="The content type wanted back.")
@click.option("--variant", help="Of the endpoint; by default chosen by weight.")
@click.option("--target-model", metavar="KEY", help="Of a multi-model endpoint, below its prefix.")
@click.option("--target-container", metavar="HOSTNAME", help="Of an endpoint whose containers are called directly.")
@click.option("--inference-id", help="What the captured request and answer are found by.")
@click.option("--session", metavar="ID", help="A session's id; NEW_SESSION opens one.")
@click.option("--custom-attributes", help="Passed on to the container.")
@click.option(
    "--async", "asynchronous", is_flag=True, help="Of an asynchronous endpoint: print where the answer will be."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the answer to a file.")
@click.option("--timeout", type=SECONDS, default=INVOCATION_SECONDS, show_default=True, help="Seconds.")
@click.option(
    "--repeat", type=click.IntRange(min=1), metavar="COUNT", help="Send it so often, and say who answered and how fast."
)
@click.option("--concurrency", type=click.IntRange(1, 256), default=1, show_default=True, help="With --repeat.")
@project_option
def invoke(  # noqa: PLR0917 - click passes each by name
    payload: Path,
    url: str,
    endpoint: str | None,
    content_type: str | None,
    accept: str | None,
    variant: str | None,
    target_model: str | None,
    target_container: str | None,
    inference_id: str | None,
    session: str | None,
    custom_attributes: str | None,
    asynchronous: bool,
    output: Path | None,
    timeout: float,
    repeat: int | None,
    concurrency: int,
    project: Path,
) -> None:
    """Send FILE (- is standard input) to an endpoint; the answer comes out byte for byte."""
    body = read_payload(payload)
    sent = content_type or guess_content_type(payload)
    if endpoint is None:
        names = (variant, target_model, target_container, inference_id, session, custom_attributes, repeat)
        if asynchronous or any(names):
            raise UsageError(
                "an option that only an endpoint understands, without --endpoint",
                "a container that `byoc serve` runs has no variants, models and sessions to choose from",
                "name the endpoint with --endpoint",
            )
        reply = invoke_container(url, body, sent, accept, timeout)
        _write(_checked(InvocationReply(reply.status, {}, reply.body)), output)
        return
    options = InvocationOptions(
        sent, accept, custom_attributes, variant, target_model, target_container, inference_id, session
    )
    workspace = Workspace.of(project)
    address = read_url(workspace.directory_of(Kind.ENDPOINT, which(workspace, endpoint)), endpoint)
    if repeat is not None:
        _print_repetition(send_many(address, endpoint, body, options, repeat, concurrency, timeout))
        return
    if asynchronous:
        _write(_invoke_async(workspace, address, endpoint, body, options, timeout), output)
        return
    answer = _checked(invoke_endpoint(address, endpoint, body, options, timeout))
    say(f"answered by variant {answer.headers.get(VARIANT_HEADER, '?')}")
    if NEW_SESSION_HEADER in answer.headers:
        say(f"session {answer.headers[NEW_SESSION_HEADER]}")
    _write(answer, output)


def _print_repetition(repetition: Repetition) -> None:
    print(repetition.describe(), flush=True)
    failed = sum(repetition.failures.values())
    if failed:
        raise JobFailedError(f"{failed} requests failed", "", "see the endpoint's log with `byoc logs`")


def _invoke_async(
    workspace: Workspace, address: str, endpoint: str, body: bytes, options: InvocationOptions, timeout: float
) -> InvocationReply:
    """Send a body inline if it is small enough, else by way of the default bucket; the answer is where to look."""
    location = None
    if len(body) > INLINE_BYTES or not body:
        location = f"s3://{workspace.default_bucket}/async-endpoint-inputs/{endpoint}/{uuid.uuid4()}"
        workspace.buckets.put_bytes(location, body, options.content_type)
    reply = _checked(invoke_endpoint_async(address, endpoint, b"" if location else body, location, options, timeout))
    document = {
        **json.loads(reply.body),
        "OutputLocation": reply.headers.get("x-amzn-sagemaker-outputlocation"),
        "FailureLocation": reply.headers.get("x-amzn-sagemaker-failurelocation"),
    }
    return InvocationReply(reply.status, reply.headers, json.dumps(document, indent=2).encode() + b"\n")


def _checked(reply: InvocationReply) -> InvocationReply:
    if not reply.ok:
        text = reply.body.decode(errors="replace").strip()
        raise JobFailedError(f"the endpoint answered with status {reply.status}", text, "see the endpoint's log")
    return reply


def _write(reply: InvocationReply, output: Path | None) -> None:
    if output is not None:
        output.write_bytes(reply.body)
    else:
        sys.stdout.buffer.write(reply.body)
        sys.stdout.buffer.flush()


def read_payload(payload: Path) -> bytes:
    """Read a file, or standard input for ``-``.

    Raises:
        UsageError: if it cannot be read.
    """
    if str(payload) == "-":
        return sys.stdin.buffer.read()
    try:
        return payload.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{payload} cannot be read: {error.strerror}", "expected a payload", "correct the path"
        ) from error


def guess_content_type(payload: Path) -> str:
    """The content type of a file's suffix.

    Raises:
        UsageError: if the suffix says nothing.
    """
    content_type = content_type_of(payload)
    if content_type is None:
        raise UsageError(
            f"the content type of {payload} cannot be guessed",
            f"expected one of the suffixes {' '.join(CONTENT_TYPES)}",
            "say it with --content-type",
        )
    return content_type

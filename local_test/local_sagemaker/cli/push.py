"""``byoc push``."""

from __future__ import annotations

from dataclasses import asdict

import click

from local_sagemaker.cli.options import dry_run_option, json_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.errors import UsageError
from local_sagemaker.image import DEFAULT_TAG
from local_sagemaker.progress import say
from local_sagemaker.push import REGISTRY_VARIABLE, check_image, plan_push
from local_sagemaker.push import push as push_image


@click.command(
    cls=Verb, examples=("byoc push", "byoc push sagemaker-byoc:latest --repository digits --tag v3 --region eu-west-1")
)
@click.argument("image", default=DEFAULT_TAG)
@click.option("--repository", help="Its name in ECR; by default the image's.")
@click.option("--tag", help="Its tag in ECR; by default the image's.")
@click.option("--region", envvar=["AWS_REGION", "AWS_DEFAULT_REGION"], help="Of ECR; by default AWS's configuration's.")
@click.option("--create/--no-create", default=True, show_default=True, help="Make the repository if it is absent.")
@click.option("--registry", envvar=REGISTRY_VARIABLE, metavar="HOST:PORT", help="Push here instead, to try it out.")
@dry_run_option
@json_option
def push(
    image: str,
    repository: str | None,
    tag: str | None,
    region: str | None,
    create: bool,
    registry: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Push IMAGE to Amazon ECR, where SageMaker finds it, and print its address."""
    import boto3  # noqa: PLC0415 - heavy, and no other verb needs it

    from local_sagemaker.engines import DockerEngine  # noqa: PLC0415 - brings Docker's SDK

    session = boto3.session.Session(region_name=region)
    if session.region_name is None:
        raise UsageError("there is no region", "ECR has a registry in each", "give --region, or set AWS_REGION")
    plan = plan_push(image, repository, tag, session.region_name, create=create, registry=registry)
    client = DockerEngine.connect().client
    if dry_run:
        check_image(client, image)
        steps = [
            f"aws ecr get-authorization-token --region {plan.region}",
            f"aws ecr describe-repositories --repository-names {plan.repository} --region {plan.region}",
            *([f"aws ecr create-repository --repository-name {plan.repository}"] if create else []),
            f"docker tag {plan.image} {plan.uri}",
            f"docker push {plan.uri}",
        ]
        emit({"push": asdict(plan), "uri": plan.uri, "commands": steps}, as_json, *steps)
        return
    pushed = push_image(plan, client, session.client("ecr"), say)
    emit(asdict(pushed), as_json, pushed.uri)

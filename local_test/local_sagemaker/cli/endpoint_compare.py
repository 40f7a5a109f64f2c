"""``byoc endpoint compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from local_sagemaker.cli.endpoint_common import name_argument, open_workspace, which
from local_sagemaker.cli.number import Number
from local_sagemaker.cli.options import json_option, project_option
from local_sagemaker.cli.output import emit
from local_sagemaker.cli.verb import Verb
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.fleet import FLEETS_FILE, FleetTags
from local_sagemaker.hosting.ground_truth import Captures, Judged, judge, read_truth
from local_sagemaker.hosting.journal import CAPTURE_FOLDER
from local_sagemaker.hosting.measurements import outcomes, read_metrics
from local_sagemaker.state.records import Kind

if TYPE_CHECKING:
    from local_sagemaker.hosting.comparison import Comparison, Interval, VariantReport
    from local_sagemaker.state.workspace import Workspace


@click.command(cls=Verb, examples=("byoc endpoint compare", "byoc endpoint compare digits --truth labels.csv"))
@name_argument
@click.option(
    "--variants", metavar="FIRST,SECOND", help="What callers have, and the challenger; default: the first two."
)
@click.option("--truth", type=click.Path(path_type=Path), metavar="FILE", help="CSV or JSON Lines: inferenceId, label.")
@click.option("--member", metavar="NAME", help="Of an answer that is a JSON object: where its label is.")
@click.option("--confidence", type=Number(0.5, 0.9999), default=0.95, show_default=True, help="Of intervals.")
@project_option
@json_option
def compare(
    name: str | None,
    variants: str | None,
    truth: Path | None,
    member: str | None,
    confidence: float,
    project: Path,
    as_json: bool,
) -> None:
    """Compare two variants of endpoint NAME (default: the only one), and say what to do.

    With --truth the answers that were captured are joined with their labels by inference id.
    """
    from local_sagemaker.hosting.comparison import compare as compare_outcomes  # noqa: PLC0415 - SciPy takes its time

    workspace = open_workspace(project)
    name = which(workspace, name)
    record = workspace.store.get(Kind.ENDPOINT, name)
    described = [
        *record.description.get("ProductionVariants", ()),
        *record.description.get("ShadowProductionVariants", ()),
    ]
    names = [one["VariantName"] for one in described]
    chosen = variants.split(",") if variants is not None else names[:2]
    if len(chosen) != 2 or not set(chosen) <= set(names):
        raise UsageError(
            f"variants {', '.join(chosen) or 'none'}",
            f"expected two of {', '.join(names) or 'none'}",
            "write --variants FIRST,SECOND",
        )
    directory = workspace.directory_of(Kind.ENDPOINT, name)
    metrics, fleet = read_metrics(directory), _fleet(directory)
    labels = None if truth is None else read_truth(truth)
    sides = []
    for variant in chosen:
        judged = (
            Judged() if labels is None else judge(_captures(workspace, record.description, variant), labels, member)
        )
        sides.append(outcomes(metrics, variant, fleet, judged.judged, judged.right))
    comparison = compare_outcomes(sides[0], sides[1], confidence)
    emit(comparison.document(), as_json, *lines_of_comparison(comparison))


def _fleet(directory: Path) -> str:
    """The tag of the fleet in service, or of the last one that was."""
    return FleetTags(directory / FLEETS_FILE).current


def _captures(workspace: Workspace, description: dict[str, Any], variant: str) -> Captures:
    name, capture = str(description["EndpointName"]), description.get("DataCaptureConfig")
    if capture is None:
        raise UsageError(
            f"endpoint {name} captures nothing",
            "the truth is joined with captured answers",
            "update it with --capture 100",
        )
    folder = workspace.buckets.path(str(capture["DestinationS3Uri"]).rstrip("/")) / name / variant
    staging = workspace.directory_of(Kind.ENDPOINT, name) / CAPTURE_FOLDER
    return Captures(folder, (staging, f"{name}%2F{variant}%2F"))


def lines_of_comparison(comparison: Comparison) -> list[str]:
    """The report as a table for people, the decision last."""
    first, second = comparison.first, comparison.second
    rows: list[tuple[str, ...]] = [
        ("", first.variant, second.variant, f"difference ({comparison.confidence * 100:g} %)")
    ]
    rows.append(("requests", str(first.requests), str(second.requests), ""))
    rows.append(
        ("errors", *(_percent(one.error_rate) for one in (first, second)), _percent(comparison.error_rate_difference))
    )
    for statistic in ("mean", "p50", "p90", "p99"):
        both = [_ms(one.latency_ms.get(statistic)) for one in (first, second)]
        rows.append((f"latency {statistic}", *both, _ms(comparison.latency_ms_difference.get(statistic))))
    if first.accuracy is not None or second.accuracy is not None:
        rows.append(("right", *map(_right, (first, second)), _percent(comparison.accuracy_difference)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*table, "", comparison.words]


def _right(report: VariantReport) -> str:
    return f"{_percent(report.accuracy)} of {report.judged}"


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.value * 100:.2f} % [{interval.low * 100:.2f}, {interval.high * 100:.2f}]"


def _ms(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.2f} ms [{interval.low:.2f}, {interval.high:.2f}]"

"""What is shown is what was said: in the texts of others rich's codes mean nothing."""

import sys

import pytest
from local_sagemaker.cli.tune_view import results_table
from local_sagemaker.conformance.findings import Report
from local_sagemaker.conformance.report import show
from local_sagemaker.console import plain_console
from local_sagemaker.tuning.definitions import Definition
from local_sagemaker.tuning.ranges import CategoricalRange


def test_a_report_names_its_image_whole(capsys):
    """`:shell:` is rich's code of a picture, and stands where a colon follows the tag `shell` (harness_peers 7.2)."""
    show(Report("models:shell", False, (), 1.0), plain_console(sys.stdout, 80))
    assert capsys.readouterr().out.startswith("models:shell: ")


@pytest.mark.parametrize("category", ["[rbf]", "[/]", ":rocket:"])
def test_the_table_of_a_tuning_job_shows_categories_whole(capsys, category):
    """24.4: a category is any text."""
    kernel = CategoricalRange("kernel", (category, "linear"))
    definition = Definition("", {}, "loss", is_maximized=False, ranges=(kernel,), static={})
    job = {
        "TrainingJobName": "search-1",
        "TrainingJobStatus": "Completed",
        "TunedHyperParameters": {"kernel": category},
    }
    results_table([job], (definition,))
    assert category in capsys.readouterr().out

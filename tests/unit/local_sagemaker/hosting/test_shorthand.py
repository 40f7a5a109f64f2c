"""What ``--variant blue=...`` means, on paper and made."""

import json
import os

import pytest
from click.testing import CliRunner
from local_sagemaker.cli import byoc
from local_sagemaker.errors import UsageError
from local_sagemaker.hosting.shorthand import make_model, parse_variant, plan_model
from local_sagemaker.state.records import Kind
from local_sagemaker.state.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "project/model").mkdir(parents=True)
    (tmp_path / "project/model/weights").write_bytes(b"1")
    return Workspace(tmp_path / "project")


def plan(workspace, text):
    return plan_model(workspace, parse_variant(f"blue={text}", "--variant"), "digits", "image:1", {"A": "b"})


def test_a_plan_makes_nothing(workspace):
    planned = plan(workspace, workspace.root / "model")
    assert planned.request["PrimaryContainer"]["Image"] == "image:1"
    assert workspace.store.find() == []
    assert not workspace.buckets.root.exists()


def test_a_folder_becomes_an_archive_in_the_default_bucket_and_a_model(workspace):
    """23.3."""
    planned = plan(workspace, workspace.root / "model")
    make_model(workspace, planned)
    assert workspace.buckets.exists(planned.request["PrimaryContainer"]["ModelDataUrl"])
    assert workspace.store.get(Kind.MODEL, planned.name).request == planned.request
    assert plan(workspace, planned.name).request is None


def test_the_same_folder_is_the_same_model_and_a_changed_one_another(workspace):
    first = plan(workspace, workspace.root / "model")
    os.utime(workspace.root / "model/weights", (1, 1))
    assert plan(workspace, workspace.root / "model") == first
    (workspace.root / "model/weights").write_bytes(b"2")
    assert plan(workspace, workspace.root / "model").name != first.name


def test_what_is_no_model_is_told(workspace):
    with pytest.raises(UsageError, match="there is no model absent"):
        plan(workspace, "absent")


def test_a_dry_run_makes_no_record_and_prints_what_request_takes(workspace):
    words = ["endpoint", "create", "digits", "--project", str(workspace.root), "--dry-run"]
    told = CliRunner().invoke(byoc, [*words, "--variant", f"blue={workspace.root / 'model'}"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.output)
    assert workspace.store.find() == []
    (workspace.root / "endpoint.json").write_text(told.output)
    again = CliRunner().invoke(byoc, [*words, "--request", str(workspace.root / "endpoint.json")])
    assert json.loads(again.output) == document
    assert list(document) == ["CreateModel", "CreateEndpointConfig", "CreateEndpoint"]

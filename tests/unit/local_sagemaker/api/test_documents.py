"""Request documents, from files and under flags."""

import io

import pytest
from local_sagemaker.api.documents import merge, read_request
from local_sagemaker.errors import UsageError


def test_json_and_yaml_say_the_same(tmp_path):
    (tmp_path / "job.json").write_text('{"TrainingJobName": "a", "StoppingCondition": {"MaxRuntimeInSeconds": 60}}')
    (tmp_path / "job.yaml").write_text("TrainingJobName: a\nStoppingCondition:\n  MaxRuntimeInSeconds: 60\n")
    assert read_request(tmp_path / "job.json") == read_request(tmp_path / "job.yaml")


def test_yaml_makes_no_dates_and_no_truths_of_words(tmp_path):
    (tmp_path / "job.yaml").write_text("a: 2026-01-31\nb: on\nc: no\nd: true\nf: '10'\n")
    assert read_request(tmp_path / "job.yaml") == {
        "a": "2026-01-31",
        "b": "on",
        "c": "no",
        "d": True,
        "f": "10",
    }


def test_a_dash_is_standard_input(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.stdin", io.StringIO('{"TrainingJobName": "a"}'))
    assert read_request(tmp_path.__class__("-")) == {"TrainingJobName": "a"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("job.json", "{", "line 1, column 2"),
        ("job.yaml", "a: [1\nb: 2", "line 2"),
        ("job.yaml", "just words", "holds a str"),
        ("job.yaml", "# nothing yet", "job.yaml is empty"),
        ("job.yaml", "name: \x07", "#x0007"),
        ("job.json", '{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "the key 'c' stands twice"),
        ("job.yaml", "a: 1\nb:\n  c: 1\n  c: 3\n", "line 4, column 3: the key 'c' stands twice"),
        ("job.yaml", "a: &a {b: *a}", "nested too deeply, or in itself"),
        ("job.json", "[" * 100_000, "nested too deeply"),
        ("job.json", '{"a": ' + "9" * 5000 + "}", "job.json: "),
        ("job.yaml", "a: !!int many", "job.yaml"),
        ("job.yaml", "{[a]: b}", "unhashable key"),
        ("job.yaml", "a: !!python/object/apply:os.system ['true']", "line 1"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        read_request(tmp_path / name)


@pytest.mark.parametrize(("name", "text"), [("job.json", '{"A": "1"}'), ("job.yaml", "A: '1'")])
def test_a_byte_order_mark_is_passed_over(tmp_path, name, text):
    """As some editors of Windows write one."""
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert read_request(tmp_path / name) == {"A": "1"}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_document_that_powershell_redirected_is_read(tmp_path, encoding):
    """`aws sagemaker describe-training-job > job.json` is UTF-16 there, with a byte order mark."""
    (tmp_path / "job.json").write_bytes('\ufeff{"A": "é"}\r\n'.encode(encoding))
    assert read_request(tmp_path / "job.json") == {"A": "é"}


def test_another_encoding_is_told_apart_from_a_wrong_path(tmp_path):
    (tmp_path / "job.json").write_bytes('{"A": "é"}'.encode("latin-1"))
    with pytest.raises(UsageError, match="cannot be read") as raised:
        read_request(tmp_path / "job.json")
    assert raised.value.next_step == "save it in UTF-8"


def test_a_function_of_cloudformation_is_told_not_to_be_called(tmp_path):
    (tmp_path / "job.yaml").write_text('RoleArn: !Sub "arn:aws:iam::${AWS::AccountId}:role/r"\n')
    with pytest.raises(UsageError, match="line 1, column 10") as raised:
        read_request(tmp_path / "job.yaml")
    assert "CloudFormation" in raised.value.next_step


def test_what_is_merged_into_an_object_may_be_said_anew(tmp_path):
    (tmp_path / "job.yaml").write_text("a: &a {X: '1', Y: '2'}\nb: {<<: *a, Y: '3'}\nc: {<<: *a, X: '4'}\n")
    assert read_request(tmp_path / "job.yaml") == {
        "a": {"X": "1", "Y": "2"},
        "b": {"X": "1", "Y": "3"},
        "c": {"X": "4", "Y": "2"},
    }


def test_an_absent_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"job\.json cannot be read"):
        read_request(tmp_path / "job.json")


def test_flags_win_and_what_they_do_not_say_stays():
    document = {"A": {"B": 1, "C": [1, 2]}, "D": "x"}
    assert merge(document, {"A": {"C": [3]}, "D": None, "E": 1}) == {"A": {"B": 1, "C": [3]}, "D": "x", "E": 1}
    assert document == {"A": {"B": 1, "C": [1, 2]}, "D": "x"}


def test_members_that_are_null_are_not_given(tmp_path):
    """To the service null is absence, wherever a member stands; a map's missing value is not a member."""
    (tmp_path / "job.yaml").write_text(
        "StoppingCondition:\nInputDataConfig: [{ChannelName: a, InputMode: null}]\nHyperParameters: {lr: }\n"
    )
    assert read_request(tmp_path / "job.yaml") == {
        "InputDataConfig": [{"ChannelName": "a"}],
        "HyperParameters": {"lr": None},
    }

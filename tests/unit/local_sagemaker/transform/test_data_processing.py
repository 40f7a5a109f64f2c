"""Filters and joins: what the container sees of a record, and what is kept of its answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_sagemaker.transform.data_processing import DataProcessing, format_of
from local_sagemaker.transform.failure import ObjectFailed
from local_sagemaker.transform.jsonpath import parse


def processing(input_filter="$", output_filter="$", joins=False, form="csv", by_line=True):
    return DataProcessing(parse(input_filter), parse(output_filter), joins, form, form, by_line)


def test_the_container_sees_the_columns_that_are_selected():
    """15.40."""
    assert processing("$[1:]").filter_input(b"id1,a,b\nid2,c,d\n", 1) == b"a,b\nc,d\n"


def test_the_container_sees_the_member_that_is_selected():
    """15.40."""
    lines = b'{"id": 1, "features": [1, 2]}\n{"id": 2, "features": [3]}'
    assert processing("$.features", form="json lines").filter_input(lines, 1) == b"[1,2]\n[3]\n"


def test_a_document_of_json_is_one_record_on_many_lines():
    """15.40."""
    one = processing("$.features", form="json", by_line=False)
    assert one.filter_input(b'{\n"id": 1,\n"features": [1]}\n', 1) == b"[1]"


def test_answers_are_appended_to_rows():
    """15.40: CSV."""
    assert processing(joins=True).output(b"1,a\r\n2,b", b"0.1\n0.2\n", 1) == b"1,a,0.1\n2,b,0.2\n"


def test_answers_become_a_member_of_objects():
    """15.40: JSON Lines."""
    joined = processing(joins=True, form="json lines").output(b'{"id": 1}\n[2]\n', b'{"p": 0.5}\n0.25\n', 1)
    assert [json.loads(line) for line in joined.splitlines()] == [
        {"id": 1, "SageMakerOutput": {"p": 0.5}},
        {"SageMakerInput": [2], "SageMakerOutput": 0.25},
    ]


def test_a_single_answer_may_have_many_lines():
    """15.40: a record that travels alone."""
    joined = processing(joins=True, form="json lines").output(b'{"id": 1}\n', b'{\n  "p": 0.5\n}\n', 1)
    assert json.loads(joined) == {"id": 1, "SageMakerOutput": {"p": 0.5}}


def test_the_output_filter_selects_from_what_is_joined():
    """15.40: InputFilter, JoinSource, OutputFilter together."""
    rows = processing("$[1:]", "$[0,-1]", joins=True)
    assert rows.output(b"id1,a,b\nid2,c,d\n", b"0.1\n0.2\n", 1) == b"id1,0.1\nid2,0.2\n"
    lines = processing("$.x", "$['id','SageMakerOutput']", joins=True, form="json lines")
    assert json.loads(lines.output(b'{"id": 1, "x": 2}\n', b"3\n", 1)) == {"id": 1, "SageMakerOutput": 3}


def test_the_output_filter_selects_from_answers_that_are_not_joined():
    """15.40."""
    assert processing("$", "$[0]").output(b"", b"cat,0.9\ndog,0.8\n", 1) == b"cat\ndog\n"
    assert processing("$", "$.p", form="json lines").output(b"", b'{"p": 1}\n{"p": 2}\n', 1) == b"1\n2\n"


@pytest.mark.parametrize("answer", [b"0.1\n", b"0.1\n0.2\n0.3\n", b""])
def test_as_many_answers_as_records_are_needed_for_a_join(answer):
    """15.40: counts must equal."""
    with pytest.raises(ObjectFailed, match=r"records 5 to 6: the container answered . records for 2") as failed:
        processing(joins=True).output(b"1\n2\n", answer, 5)
    assert failed.value.blame == "AlgorithmError"


def test_a_record_that_is_not_as_the_filter_expects_is_named():
    """15.38, 15.40."""
    with pytest.raises(ObjectFailed, match="record 12: there is no element 2 among 2"):
        processing("$[2]").filter_input(b"1,2,3\n1,2\n", 11)
    with pytest.raises(ObjectFailed, match="record 2 or its answer is not in its format"):
        processing("$.x", form="json lines").filter_input(b'{"x": 1}\n{"x": \n', 1)
    with pytest.raises(ObjectFailed, match="record 1: no column is selected"):
        processing("$[5:]").filter_input(b"1,2\n", 1)


def test_a_quoted_cell_may_hold_commas_and_quotes():
    """15.37, 15.40: only a line break within a cell is not known."""
    assert processing("$[1,0]").filter_input(b'"a, ""b""",c\n', 1) == b'c,"a, ""b"""\n'


plain = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters='",\x85\u2028\u2029'), max_size=5)


@given(st.lists(st.lists(plain, min_size=3, max_size=3), min_size=1, max_size=5))
def test_filter_and_join_bring_every_row_back(rows):
    """15.40: the columns that the container saw, behind all of them."""
    data = "".join(",".join(row) + "\n" for row in rows).encode()
    one = processing("$[1:]", "$[0,-2:]", joins=True)
    seen = one.filter_input(data, 1)
    assert seen == "".join(f"{row[1]},{row[2]}\n" for row in rows).encode()
    if len(rows) > 1:
        assert one.output(data, seen, 1) == data


@pytest.mark.parametrize(
    ("content_type", "form"),
    [("text/csv", "csv"), ("Text/CSV; charset=utf-8", "csv"), ("application/json", "json"),
     ("application/jsonlines", "json lines"), ("application/x-recordio-protobuf", None), (None, None)],
)  # fmt: skip
def test_the_format_is_the_content_types(content_type, form):
    """15.40: JSON and CSV only."""
    assert format_of(content_type) == form


def test_a_quoted_cell_may_be_as_long_as_its_record():
    """15.40."""
    document = b'"' + b"a word, " * 100_000 + b'"'
    assert processing("$[1:]").filter_input(b"1," + document + b"\n", 1) == document + b"\n"


def test_a_document_that_is_nested_too_deeply_fails_its_object():
    """15.40."""
    with pytest.raises(ObjectFailed, match="record 1 or its answer is not in its format"):
        processing("$.a", form="json lines").filter_input(b"[" * 200_000 + b"\n", 1)

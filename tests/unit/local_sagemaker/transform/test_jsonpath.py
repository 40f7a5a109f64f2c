"""The JSONPath of data processing, against a library that knows more of it."""

import jsonpath_ng
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_sagemaker.transform.jsonpath import JsonPathSyntaxError, NothingSelectedError, parse

ROW = [0, 1, 2, 3, 4, 5, 6, 7]
DOCUMENT = {"id": 7, "features": [1.5, 2.5, 3.5], "of": {"a-b": {"c": None}, "": 0}, "SageMakerOutput": {"p": 0.9}}


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("$", DOCUMENT),
        ("$.features", [1.5, 2.5, 3.5]),
        ("$['features']", [1.5, 2.5, 3.5]),
        ('$["features"][1]', 2.5),
        ("$.features[-1]", 3.5),
        ("$.features[1:]", [2.5, 3.5]),
        ("$.features[*]", [1.5, 2.5, 3.5]),
        ("$.of.a-b.c", None),
        ("$['id','SageMakerOutput']", {"id": 7, "SageMakerOutput": {"p": 0.9}}),
        ("$.SageMakerOutput.*", [0.9]),
    ],
)
def test_an_expression_selects_from_a_document(expression, selected):
    """15.40: one value as it is, several as an array, several members as an object."""
    assert parse(expression).select(DOCUMENT) == selected


@pytest.mark.parametrize(
    ("expression", "selected"),
    [("$[0]", 0), ("$[1:]", ROW[1:]), ("$[0,2]", [0, 2]), ("$[0,5:]", [0, 5, 6, 7]), ("$[ 0 , -1 ]", [0, 7]),
     ("$[:2,-2:]", [0, 1, 6, 7]), ("$[3:1]", [])],
)  # fmt: skip
def test_an_expression_selects_from_an_array(expression, selected):
    """15.40: the service documents $[0,5:]."""
    assert parse(expression).select(ROW) == selected


@pytest.mark.parametrize(
    "expression",
    ["", "features", "$features", "$.", "$..id", "$[", "$[]", "$[a]", "$['id]", "$[?(@.id>1)]", "$.id.length()",
     "$[0,]", "$[1:2:3]", "$[0 1]", "$ .id", "$[@]"],
)  # fmt: skip
def test_what_the_service_does_not_know_is_refused(expression):
    """15.40: no filters, functions or descents."""
    with pytest.raises(JsonPathSyntaxError):
        parse(expression)


@pytest.mark.parametrize(
    ("expression", "document"),
    [("$[8]", ROW), ("$[0,-9]", ROW), ("$.no", DOCUMENT), ("$['id','no']", DOCUMENT), ("$.id.no", DOCUMENT),
     ("$.id[0]", DOCUMENT), ("$.id.*", DOCUMENT), ("$[0]", DOCUMENT), ("$.a", "text"), ("$[0]", "text")],
)  # fmt: skip
def test_what_is_not_there_is_an_error(expression, document):
    """15.40: an index outside of the record is."""
    with pytest.raises(NothingSelectedError):
        parse(expression).select(document)


names = st.sampled_from(["a", "b", "c"])
documents = st.recursive(
    st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
edges = st.none() | st.integers(-4, 4)
steps = st.one_of(
    names.map(lambda name: f".{name}"),
    names.map(lambda name: f"['{name}']"),
    st.just("[*]"),
    st.integers(-3, 3).map(lambda index: f"[{index}]"),
    st.lists(st.integers(-3, 3), min_size=2, max_size=3).map(lambda some: f"[{','.join(map(str, some))}]"),
    st.tuples(edges, edges).map(lambda ends: f"[{ends[0] or ''}:{ends[1] or ''}]"),
)


@given(documents, st.lists(steps, max_size=3).map("".join))
def test_it_selects_what_the_library_selects(document, rest):
    """15.40: where nothing is missing."""
    path = parse(f"${rest}")
    try:
        selected = path.select(document)
    except NothingSelectedError:
        return
    found = [match.value for match in jsonpath_ng.parse(f"${rest}").find(document)]
    assert found == (selected if "*" in rest or "," in rest or ":" in rest else [selected])

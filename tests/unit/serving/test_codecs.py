"""Content types: what goes in comes out again, and what cannot is said."""

import io
import json
import math

import numpy as np
import pytest
import sagemaker_byoc
from hypothesis import given
from hypothesis import strategies as st
from sagemaker_byoc.errors import MalformedBody, NotAcceptable, RequestError, UnsupportedContentType
from sagemaker_byoc.serving.codecs import CODECS, choose_codec, decode, encode, parse_accept

NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)
TABLES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1)
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


TABULAR = [
    "application/json",
    "application/jsonlines",
    "text/csv",
    "application/x-npy",
    "application/x-npz",
    "application/x-recordio-protobuf",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.arrow.file",
    "application/vnd.apache.parquet",
]


def plain(value: object) -> object:
    """Arrays and tables as lists."""
    if isinstance(value, dict) and list(value) == ["arr_0"]:
        value = value["arr_0"]
    return np.asarray(value).tolist() if hasattr(value, "__array__") else value


@given(TABLES, st.sampled_from([name for name in TABULAR if "recordio" not in name]))
def test_table_survives_every_format(table: list[list[float]], content_type: str) -> None:
    """Out and in again, to the last bit."""
    body, written = encode(np.array(table), content_type)
    assert written == content_type
    assert plain(decode(body, content_type)) == table


@given(VALUES)
def test_any_json_value_survives(value: object) -> None:
    """What JSON can hold comes back as it was."""
    body, _ = encode(value, "application/json")
    assert json.loads(body) == value
    if body.strip():
        assert plain(decode(body, "application/json")) == value


@given(st.binary(min_size=1, max_size=200), st.sampled_from([codec.content_type for codec in CODECS]))
def test_any_bytes_are_a_value_or_a_request_error(body: bytes, content_type: str) -> None:
    """Nothing a stranger sends is a failure of ours."""
    try:
        decode(body, content_type)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


@given(st.text(max_size=60))
def test_any_accept_header_is_a_codec_or_not_acceptable(header: str) -> None:
    """The same for headers."""
    try:
        assert choose_codec(header) in CODECS
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_content_type_is_read_or_refused(header: str) -> None:
    """A header is a stranger's too."""
    try:
        decode(b"1", header)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


@pytest.mark.parametrize(("value", "expected"), [([1.5, math.nan], [1.5, None]), ({"a": math.inf}, {"a": None})])
def test_nan_is_null_in_json(value: object, expected: object) -> None:
    """JSON has no NaN."""
    assert json.loads(encode(value, "application/json")[0]) == expected


def test_numpy_values_inside_structures_are_plain() -> None:
    """A dict of scores is the commonest answer of all."""
    value = {"score": np.float32(0.5), "rows": [np.arange(3)], "best": np.int64(2), "flag": np.bool_(True)}
    assert json.loads(encode(value, "application/json")[0]) == {
        "score": 0.5,
        "rows": [[0, 1, 2]],
        "best": 2,
        "flag": True,
    }


def test_tensor_is_written_like_an_array() -> None:
    """Gradients and devices are the framework's business."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    value = torch.tensor([[1.0, 2.0]], requires_grad=True)
    assert encode(value, "text/csv") == (b"1.0,2.0\n", "text/csv")
    assert json.loads(encode({"p": value}, "application/json")[0]) == {"p": [[1.0, 2.0]]}


def test_integers_stay_integers() -> None:
    """Labels are not measurements."""
    assert np.asarray(decode(b"1,2\n3,4\n", "text/csv")).dtype.kind == "i"
    assert np.asarray(decode(b"[1, 2]", "application/json")).dtype.kind == "i"


def test_csv_of_texts_keeps_quotes_commas_and_line_ends_inside_fields() -> None:
    """What a spreadsheet writes."""
    assert decode(b'"a, b","say ""hi""","two\nlines"\n', "text/csv") == [["a, b", 'say "hi"', "two\nlines"]]


def test_a_csv_field_may_be_a_whole_document() -> None:
    """15.9."""
    document = "a word, " * 100_000
    assert decode(f'1,"{document}"\n'.encode(), "text/csv") == [["1", document]]


def test_ragged_csv_names_the_row() -> None:
    """A person finds it by its number."""
    with pytest.raises(RequestError, match="row 2"):
        decode(b"1,2\n3\n", "text/csv")


def test_unknown_type_names_itself_and_the_known_ones() -> None:
    """415 in the making."""
    with pytest.raises(UnsupportedContentType, match=r"image/tiff.*application/json.*text/csv"):
        decode(b"x", "image/tiff")


def test_absent_type_is_said_to_be_absent() -> None:
    with pytest.raises(UnsupportedContentType, match=r"no Content-Type.*application/json"):
        decode(b"x", "")


def test_refused_type_is_never_chosen() -> None:
    """q=0 says no, also below a wildcard."""
    assert choose_codec("application/json;q=0, */*").content_type != "application/json"
    with pytest.raises(NotAcceptable):
        choose_codec("application/json;q=0")


def test_accept_is_ordered_by_quality_then_place() -> None:
    """The header's own order decides among equals."""
    names = [media.name for media in parse_accept("a/a;q=0.2, b/b, c/c;q=0.9, d/d")]
    assert names == ["b/b", "d/d", "c/c", "a/a"]


def test_users_may_call_them_by_the_packages_name() -> None:
    """The public names are the codecs that serve."""
    assert sagemaker_byoc.decode is decode
    assert sagemaker_byoc.encode is encode


def test_zip_of_arrays_is_not_an_npy_body() -> None:
    """15.5: np.load would open it."""
    body = io.BytesIO()
    np.savez(body, images=np.ones(2))
    with pytest.raises(MalformedBody, match="NPY"):
        decode(body.getvalue(), "application/x-npy")


def test_missing_csv_number_is_nan_beside_numbers_and_text_beside_text() -> None:
    assert np.array_equal(decode(b"1,,3\n4,5,6\n", "text/csv"), [[1, np.nan, 3], [4, 5, 6]], equal_nan=True)
    assert decode(b"a,\nb,2\n", "text/csv") == [["a", ""], ["b", "2"]]


def test_truths_among_numbers_stay_truths() -> None:
    assert decode(b"[1, true]", "application/json") == [1, True]


def test_json_too_deep_to_read_is_the_callers_mistake() -> None:
    with pytest.raises(MalformedBody):
        decode(b"[" * 100_000, "application/json")

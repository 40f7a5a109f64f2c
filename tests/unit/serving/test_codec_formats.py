"""Formats one by one: what a body becomes, what is written, and which bodies are refused before they do harm."""

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sagemaker_byoc.errors import HandlerError, MalformedBody, NotAcceptable, RequestError
from sagemaker_byoc.serving.codecs import CODECS, decode, encode, find_codec, is_empty
from scipy import sparse

NPZ, RECORDIO, PARQUET = "application/x-npz", "application/x-recordio-protobuf", "application/vnd.apache.parquet"
ARROW_STREAM, ARROW_FILE = "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.file"
MEGABYTE = 2**20
TABLE = pa.table({"age": [1, None], "name": ["a", "b"], "tags": [["x", "y"], []]})


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def picture(pixels: np.ndarray, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, **arrays)
    return out.getvalue()


def npy_header(shape: str, kind: str) -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


PIXELS = (np.arange(4 * 6 * 3) * 3).astype(np.uint8).reshape(4, 6, 3)
VALID = {
    "application/json": b'{"instances": [[1.5, 2, "\\u00e4"], null, true]}',
    "application/jsonlines": b'[1, 2]\n{"a": "b"}\n',
    "text/csv": b'1,2.5,"a\nb"\n3,,c\n',
    "application/x-npy": encode(np.ones((3, 4)), "application/x-npy")[0],
    NPZ: npz(a=np.ones(3), b=np.arange(4)),
    RECORDIO: encode(np.arange(6.0).reshape(2, 3), RECORDIO)[0],
    ARROW_STREAM: arrow(TABLE, "zstd"),
    ARROW_FILE: encode(TABLE, ARROW_FILE)[0],
    PARQUET: parquet(TABLE),
    "image/png": picture(PIXELS, "PNG"),
    "image/jpeg": picture(PIXELS, "JPEG"),
    "image/webp": picture(PIXELS, "WEBP"),
    "image/gif": picture(PIXELS[:, :, 0], "GIF"),
    "image/bmp": picture(PIXELS, "BMP"),
    "text/plain": "größer".encode(),
    "application/octet-stream": b"\x00\xff",
    "audio/*": b"RIFF",
    "video/*": b"\x00\x00\x00\x18ftyp",
}


def test_every_type_has_a_body_here_and_is_read() -> None:
    """15.5: no row of the table is there for show."""
    assert set(VALID) == {codec.content_type for codec in CODECS}
    for content_type, body in VALID.items():
        decode(body, content_type)


@given(st.sampled_from(sorted(VALID)), st.data())
def test_damaged_body_is_a_value_or_a_request_error(content_type: str, data: st.DataObject) -> None:
    """15.5: one byte changed, a piece cut out or put in: the hardest bodies are almost right."""
    body = VALID[content_type]
    at = data.draw(st.integers(0, len(body) - 1))
    cut = data.draw(st.integers(0, 8))
    damaged = body[:at] + data.draw(st.binary(max_size=8)) + body[at + cut :]
    try:
        decode(damaged, content_type, limit=64 * MEGABYTE)
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right
        assert "0x" not in str(error)  # noqa: PT017 - no address of an object is for the caller


FLIPS_EVERY_BYTE = """
import sys
from sagemaker_byoc.errors import RequestError
from sagemaker_byoc.serving.codecs import decode

body = sys.stdin.buffer.read()
for at in range(len(body)):
    for bit in (1, 16, 128):
        try:
            decode(body[:at] + bytes([body[at] ^ bit]) + body[at + 1 :], sys.argv[1], 2**24)
        except RequestError:
            pass
"""


@pytest.mark.parametrize("content_type", [ARROW_STREAM, PARQUET, RECORDIO, "image/png", "image/webp"])
def test_no_flipped_bit_ends_the_process(content_type: str) -> None:
    """15.5: the libraries are not Python, and one that gives up takes all requests of the worker with it."""
    small = {ARROW_STREAM: arrow(pa.table({"l": [["a"]]}), "zstd"), PARQUET: parquet(pa.table({"l": [[1]]}))}
    command = [sys.executable, "-c", FLIPS_EVERY_BYTE, content_type]
    done = subprocess.run(command, input=small.get(content_type, VALID[content_type]), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


@given(st.binary(min_size=1, max_size=200), st.sampled_from(sorted(VALID)), st.text(max_size=12))
def test_any_charset_is_known_or_a_request_error(body: bytes, content_type: str, charset: str) -> None:
    """15.7."""
    try:
        decode(body, f"{content_type}; charset={charset}")
    except RequestError as error:
        assert str(error)  # noqa: PT017 - being taken is as right


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", "unicode_escape", "rot13", "hex", "a\0b", "x" * 99]
)
def test_codec_of_python_that_is_no_charset_is_unknown(charset: str) -> None:
    """15.7: some take quadratic time, some fail on everything."""
    with pytest.raises(MalformedBody, match="charset"):
        decode(b"1", f"text/csv; charset={charset}")


# JSON


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"[18446744073709551616]", [18446744073709551616]),
        (b'{"id": -9223372036854775809}', {"id": -9223372036854775809}),
        (b'["\\ud800"]', ["\ud800"]),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"\xef\xbb\xbf[null]", [None]),
        (b'{"a": Infinity}', {"a": float("inf")}),
        (b'{"a": 1e400}', {"a": float("inf")}),
        (b"[1, [2]]", [1, [2]]),
        (b"[{}, 1]", [{}, 1]),
    ],
    ids=str,
)
def test_json_is_read_as_pythons_own_reader_does(body: bytes, value: object) -> None:
    """Whichever library is faster."""
    assert decode(body, "application/json") == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_whole_numbers_of_any_length_survive(value: object) -> None:
    """Keys of 20 digits are keys, not measurements."""
    body = encode({"value": value}, "application/json")[0]
    read = decode(body, "application/json")["value"]
    assert (read, repr(read)) == (value, repr(value))


def test_floats_with_many_digits_do_not_become_slow() -> None:
    """The reader of long integers is ten times slower; digits after a point are none."""
    from sagemaker_byoc.serving.codecs import json_text

    assert json_text._keeps_its_integers(b"[0.00012345678901234567, 1.00000000000000000000001]")
    assert not json_text._keeps_its_integers(b"[0.00012345678901234567, 12345678901234567890]")


def test_nan_among_numbers_stays_nan() -> None:
    assert np.array_equal(decode(b"[[1, NaN], [-Infinity, 2]]", "application/json"), [[1, np.nan], [-np.inf, 2]], True)


def test_broken_json_line_is_named() -> None:
    """15.5."""
    with pytest.raises(MalformedBody, match="line 3: Expecting value: line 1 column 2"):
        decode(b"[1]\n\n[\n", "application/jsonlines")


@dataclass(frozen=True, slots=True)
class Score:
    label: str
    value: float


class Scored(pydantic.BaseModel):
    label: str
    value: float


@pytest.mark.parametrize("kind", [Score, Scored])
def test_data_classes_and_models_are_written_as_their_fields(kind: type) -> None:
    """In every format that has fields, also inside other values and beside a key that is no text."""
    one = kind(label="a", value=0.5)
    assert json.loads(encode({"best": one, 7: np.float32(2)}, "application/json")[0]) == {
        "best": {"label": "a", "value": 0.5},
        "7": 2.0,
    }
    assert encode([one, one], "application/jsonlines")[0] == b'{"label":"a","value":0.5}\n' * 2
    assert encode([one], "text/csv")[0] == b"a,0.5\n"
    assert decode(encode([one], PARQUET)[0], PARQUET).to_pylist() == [{"label": "a", "value": 0.5}]


def test_half_precision_of_torch_is_written() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert encode(torch.tensor([1.5], dtype=torch.bfloat16), "application/json")[0] == b"[1.5]"


@pytest.mark.parametrize("value", [np.array([0.1, 2e20], np.float32), np.arange(6).reshape(2, 3).T, np.float64(0.1)])
def test_written_numbers_are_read_as_the_same_numbers(value: np.ndarray) -> None:
    """32 bits are written as short as 32 bits allow; arrays may lie in memory in any order."""
    for content_type in ("application/json", "application/jsonlines", "text/csv"):
        read = decode(encode(value, content_type)[0], content_type)
        assert np.array_equal(np.asarray(read, value.dtype).reshape(value.shape), value)


# Records: batch transform counts them


RECORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=1, max_size=5)


@given(RECORDS)
def test_csv_has_a_record_for_each_prediction_whatever_it_holds(texts: list[str]) -> None:
    """15.37: line ends inside a field are quoted."""
    import csv

    body = encode(texts, "text/csv")[0]
    assert body.endswith(b"\n")
    assert [row[0] for row in csv.reader(io.StringIO(body.decode(), newline=""))] == texts


@given(
    st.lists(st.text(max_size=8) | st.none() | st.dictionaries(st.text(max_size=2), st.text(max_size=5)), min_size=1)
)
def test_json_lines_have_a_line_for_each_prediction_whatever_it_holds(values: list[object]) -> None:
    """15.37."""
    body = encode(values, "application/jsonlines")[0]
    assert body.endswith(b"\n")
    assert [json.loads(line) for line in body[:-1].split(b"\n")] == values


@pytest.mark.parametrize("value", [np.array([[1.5, np.nan]]), np.zeros((2, 0)), np.array([[1, 2]], np.uint64)])
def test_csv_of_odd_arrays_has_their_rows(value: np.ndarray) -> None:
    """15.37."""
    assert encode(value, "text/csv")[0].count(b"\n") == len(value)


def test_csv_keeps_what_only_looks_like_a_number() -> None:
    assert decode(b"2021_01,1\n", "text/csv") == [["2021_01", "1"]]
    assert decode(b"99999999999999999999,1\n", "text/csv").tolist() == [[1e20, 1.0]]
    assert decode(b"1, ,x\n", "text/csv") == [["1", " ", "x"]]


PIECES = [
    ",",
    "\n",
    "\r\n",
    "\r",
    " ",
    "",
    "1",
    "-2.5",
    "1e3",
    ".5",
    "+1",
    "01",
    "-0",
    "nan",
    "9" * 19,
    "9" * 25,
    "1e400",
]


@given(st.lists(st.sampled_from([*PIECES, "2021-01-01", "1 2", "9007199254740993", '"3"'])).map("".join))
def test_numbers_of_csv_are_the_same_whichever_way_they_are_read(text: str) -> None:
    """Plain numbers take a shortcut; what it cannot read goes the long way."""
    from sagemaker_byoc.serving.codecs import csv_text

    def outcome(read: Callable[[bytes], object]) -> tuple[str, str]:
        try:
            value = read(text.encode())
            # -0 is 0, as in JSON
            return (str(value.dtype), repr(value + 0)) if isinstance(value, np.ndarray) else ("rows", repr(value))
        except MalformedBody as error:
            return "error", str(error)

    if text.strip():
        long_way = outcome(lambda body: csv_text.read_any(body, "utf-8"))
        assert outcome(lambda body: csv_text.read_csv(body, "utf-8", 0)) == long_way


def test_one_long_field_takes_no_more_memory_than_itself() -> None:
    """Rows of text are never an array, where each field would be as long as the longest."""
    import tracemalloc

    body = b"a," * 100_000 + b"x" * 100_000 + b"\n"
    tracemalloc.start()
    decode(body, "text/csv")
    assert tracemalloc.get_traced_memory()[1] < 50 * MEGABYTE
    tracemalloc.stop()


# NPY and NPZ


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("(1000000, 1000000)", "<f8"),
        ("(1000000000000, 0)", "<f8"),
        ("(1000000000000,)", "|V0"),
        ("(1000000000000,)", "<U0"),
        ("(-1, 4)", "<f8"),
        ("(-4, -4)", "<f8"),
        ("(True,)", "<f8"),
        ("(9,)", "<f8"),
    ],
)
def test_npy_header_that_promises_more_than_there_is_is_refused(shape: str, kind: str) -> None:
    """15.5: before memory is taken for it."""
    with pytest.raises(MalformedBody, match="NPY"):
        decode(npy_header(shape, kind) + b"\0" * 64, "application/x-npy")


def test_array_of_a_request_may_be_written_into() -> None:
    """Handlers scale their input in place."""
    for content_type in ("application/x-npy", NPZ):
        read = decode(VALID[content_type], content_type)
        (read["a"] if isinstance(read, dict) else read)[0] = 7


def test_npz_is_a_dict_of_its_arrays() -> None:
    read = decode(VALID[NPZ], NPZ)
    assert {name: array.tolist() for name, array in read.items()} == {"a": [1, 1, 1], "b": [0, 1, 2, 3]}
    with np.load(io.BytesIO(encode({"p": np.ones(2)}, NPZ)[0])) as written:
        assert written["p"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "dia"])
def test_npz_of_scipy_is_a_sparse_matrix(kind: str) -> None:
    """What the SageMaker SDK's SparseMatrixSerializer sends."""
    matrix = sparse.random(5, 7, density=0.4, format=kind, random_state=1)
    out = io.BytesIO()
    sparse.save_npz(out, matrix)
    read = decode(out.getvalue(), NPZ)
    assert read.format == kind
    assert np.array_equal(read.toarray(), matrix.toarray())


def test_sparse_matrix_whose_indices_point_outside_is_refused() -> None:
    """15.5: SciPy would write into memory that is not its own."""
    good = sparse.csr_matrix(np.eye(3))
    good.indices = np.array([0, 1, 1_000_000_000], dtype=np.int32)
    out = io.BytesIO()
    sparse.save_npz(out, good)
    with pytest.raises(MalformedBody, match="indices"):
        decode(out.getvalue(), NPZ)


def test_npz_bomb_is_refused_before_it_is_unpacked() -> None:
    """15.5."""
    body = npz(zeros=np.zeros(16 * MEGABYTE // 8))
    assert len(body) < 100_000
    with pytest.raises(MalformedBody, match="expected at most 1048576"):
        decode(body, NPZ, limit=MEGABYTE)


def test_npz_that_lies_about_its_sizes_is_refused() -> None:
    """15.5: no more is unpacked than was declared."""
    body = bytearray(npz(zeros=np.zeros(16 * MEGABYTE // 8)))
    entry = body.index(b"PK\x01\x02")
    body[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    with pytest.raises(MalformedBody):
        decode(bytes(body), NPZ, limit=MEGABYTE)


@pytest.mark.parametrize("content_type", ["application/x-npy", NPZ])
def test_pickles_are_refused_in_arrays_and_in_zips_of_them(content_type: str) -> None:
    """15.5: nothing of a request is unpickled."""
    out = io.BytesIO()
    (np.save if content_type != NPZ else np.savez)(out, np.array([{}], dtype=object))
    with pytest.raises(MalformedBody, match="pickle"):
        decode(out.getvalue(), content_type)


def test_zip_with_other_files_is_no_npz() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("../../etc/passwd", "x")
    with pytest.raises(MalformedBody, match="passwd"):
        decode(out.getvalue(), NPZ)


# RecordIO-protobuf: what the SageMaker SDK 2.x writes, byte for byte

DENSE = bytes.fromhex(
    "0a23d7ce380000000a1e0a0676616c75657312141a120a10000000000000f83f000000000000004012160a0676616c756573"
    "120c1a0a0a0800000000000000000a23d7ce380000000a1e0a0676616c75657312141a120a10000000000000084000000000"
    "0000104012160a0676616c756573120c1a0a0a08000000000000f03f"
)
INTEGERS = bytes.fromhex(
    "0a23d7ce1b0000000a190a0676616c756573120f3a0d0a0b01feffffffffffffffff01000a23d7ce120000000a100a067661"
    "6c75657312063a040a0203040000"
)
SPARSE = bytes.fromhex(
    "0a23d7ce360000000a1c0a0676616c75657312121a100a08000000000000f83f1201011a010312160a0676616c756573120c"
    "1a0a0a08000000000000000000000a23d7ce290000000a0f0a0676616c75657312051a031a010312160a0676616c75657312"
    "0c1a0a0a08000000000000f03f0000000a23d7ce3f0000000a250a0676616c756573121b1a190a1000000000000000400000"
    "000000000840120200021a010312160a0676616c756573120c1a0a0a08000000000000f03f00"
)


@pytest.mark.parametrize(
    ("body", "kind", "rows"), [(DENSE, np.float64, [[1.5, 2], [3, 4]]), (INTEGERS, np.int32, [[1, -2], [3, 4]])]
)
def test_dense_records_are_rows_and_their_labels_are_left_out(body: bytes, kind: type, rows: list[list[float]]) -> None:
    read = decode(body, RECORDIO)
    assert read.dtype == kind
    assert read.tolist() == rows


def test_sparse_records_are_a_sparse_matrix_as_wide_as_they_say() -> None:
    read = decode(SPARSE, RECORDIO)
    assert read.format == "csr"
    assert read.toarray().tolist() == [[0, 1.5, 0], [0, 0, 0], [2, 0, 3]]


def test_batch_of_empty_sparse_records_is_sparse_too() -> None:
    """The middle record alone."""
    start = SPARSE.index(struct.pack("<I", 0xCED7230A), 4)
    end = SPARSE.index(struct.pack("<I", 0xCED7230A), start + 4)
    assert decode(SPARSE[start:end], RECORDIO).toarray().tolist() == [[0, 0, 0]]


def test_sparse_key_beyond_the_columns_is_refused() -> None:
    """15.5."""
    with pytest.raises(MalformedBody, match="columns"):
        decode(SPARSE.replace(b"\x12\x02\x00\x02\x1a\x01\x03", b"\x12\x02\x00\x7f\x1a\x01\x03"), RECORDIO)


def test_labels_of_an_answer_are_called_as_sagemakers_algorithms_call_them() -> None:
    """15.32: a dict's own names, else score; an earlier container's answer is read by the next one."""
    answer = [{"score": 0.5, "predicted_label": 1}, {"score": 0.25, "predicted_label": 0}]
    read = decode(encode(answer, RECORDIO)[0], RECORDIO)
    assert {name: rows.tolist() for name, rows in read.items()} == {
        "score": [[0.5], [0.25]],
        "predicted_label": [[1], [0]],
    }
    one = encode(np.array([1.5]), RECORDIO)[0]
    assert (
        one
        == struct.pack("<II", 0xCED7230A, 19)
        + b"\x12\x11\n\x05score\x12\x08\x12\x06\n\x04"
        + struct.pack("<f", 1.5)
        + b"\0"
    )


@pytest.mark.parametrize("value", [["a"], [2**40], [{"a": {"b": 1}}]])
def test_what_a_tensor_cannot_hold_is_not_acceptable_as_records(value: object) -> None:
    """15.5."""
    with pytest.raises(NotAcceptable):
        encode(value, RECORDIO)


# Arrow and Parquet


@pytest.mark.parametrize("content_type", [ARROW_STREAM, ARROW_FILE, PARQUET])
def test_table_keeps_names_types_and_nulls(content_type: str) -> None:
    read = decode(encode(TABLE, content_type)[0], content_type)
    assert read.equals(TABLE)
    assert json.loads(encode(read, "application/json")[0])[1] == {"age": None, "name": "b", "tags": []}


def test_dates_and_exact_numbers_of_a_table_are_text_in_json() -> None:
    table = pa.table({"day": pa.array([0], pa.date32()), "price": pa.array(["1.10"]).cast(pa.decimal128(5, 2))})
    assert encode(table, "application/json")[0] == b'[{"day":"1970-01-01","price":"1.10"}]'


def test_table_is_written_as_rows_where_there_are_no_names() -> None:
    """15.37."""
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    assert encode(table, "text/csv")[0] == b"1,x\n2,\n"
    assert encode(table, "application/jsonlines")[0] == b'{"a":1,"b":"x"}\n{"a":2,"b":null}\n'


def test_predictions_become_columns() -> None:
    for value, expected in (
        (np.array([[1, 2], [3, 4]]), {"0": [1, 3], "1": [2, 4]}),
        (np.array([1.5, 2.5]), {"0": [1.5, 2.5]}),
        ({"label": ["a", "b"], "score": np.array([0.5, 1])}, {"label": ["a", "b"], "score": [0.5, 1.0]}),
        ([{"label": "a"}, {"label": "b"}], {"label": ["a", "b"]}),
        ([[1, "a"], [2, "b"]], {"0": [1, 2], "1": ["a", "b"]}),
    ):
        assert decode(encode(value, PARQUET)[0], PARQUET).to_pydict() == expected


@pytest.mark.parametrize("write", [lambda t: arrow(t, "zstd"), lambda t: arrow(t, "lz4"), parquet])
def test_compressed_zeros_are_refused_before_they_are_unpacked(write: object) -> None:
    """15.5."""
    body = write(pa.table({"zeros": np.zeros(MEGABYTE)}))  # type: ignore[operator]
    assert len(body) < 50_000
    content_type = PARQUET if body.startswith(b"PAR1") else ARROW_STREAM
    with pytest.raises(MalformedBody, match="expected at most 1048576"):
        decode(body, content_type, limit=MEGABYTE)


@pytest.mark.parametrize("write", [arrow, parquet])
def test_one_long_text_in_a_million_rows_is_refused(write: object) -> None:
    """15.5: a few kilobytes that stand for a terabyte."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(MEGABYTE, np.int32)), pa.array(["x" * MEGABYTE]))
    body = write(pa.table({"text": text}))  # type: ignore[operator]
    content_type = PARQUET if body.startswith(b"PAR1") else ARROW_STREAM
    with pytest.raises(MalformedBody, match="would take"):
        decode(body, content_type)


def test_rows_of_nothing_are_refused() -> None:
    """15.5: a column of nulls takes no byte in the body, and one for each row in the answer."""
    with pytest.raises(MalformedBody, match="would take"):
        decode(arrow(pa.table({"nothing": pa.nulls(10**9)})), ARROW_STREAM)


def test_offsets_that_point_outside_are_refused() -> None:
    """15.5: they would end the worker, not the request."""
    good = arrow(pa.table({"text": ["abc", "de"]}))
    wrong = good.replace(struct.pack("<iii", 0, 3, 5), struct.pack("<iii", 0, 3, 2**30))
    assert wrong != good
    with pytest.raises(MalformedBody, match="Arrow"):
        decode(wrong, ARROW_STREAM)


# Images


@pytest.mark.parametrize("form", ["PNG", "BMP"])
def test_pixels_are_height_width_channels(form: str) -> None:
    read = decode(picture(PIXELS, form), f"image/{form.lower()}")
    assert read.dtype == np.uint8
    assert np.array_equal(read, PIXELS)
    read[0] = 0


def test_channels_follow_the_image() -> None:
    """Grey is one, colours are three, transparency is the fourth; 16 bits stay 16 bits."""
    grey, wide = PIXELS[:, :, 0], (np.arange(24).reshape(4, 6) * 2000).astype(np.uint16)
    assert decode(picture(grey, "PNG"), "image/png").shape == (4, 6, 1)
    assert decode(picture(np.dstack([PIXELS, grey]), "PNG"), "image/png").shape == (4, 6, 4)
    assert np.array_equal(decode(picture(wide, "PNG"), "image/png")[:, :, 0], wide)
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(out, "JPEG")
    assert decode(out.getvalue(), "image/jpeg").shape == (4, 6, 3)
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("P").save(out, "PNG")
    assert decode(out.getvalue(), "image/png").shape == (4, 6, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_array_is_written_as_png_where_that_is_asked(channels: int) -> None:
    pixels = np.dstack([PIXELS, PIXELS])[:, :, :channels]
    body, content_type = encode(pixels, "image/*")
    assert content_type == "image/png"
    assert np.array_equal(decode(body, "image/png"), pixels)


def test_scores_are_no_picture() -> None:
    """15.5: the next type of the header is taken, and where there is none, that is said."""
    assert encode(np.ones((2, 3)), "image/png, text/csv;q=0.1")[1] == "text/csv"
    with pytest.raises(NotAcceptable, match="picture"):
        encode(np.ones((2, 3)), "image/png")


def test_image_of_another_format_is_refused() -> None:
    """15.5: only the decoder that the content type names is tried."""
    with pytest.raises(MalformedBody, match="PNG"):
        decode(VALID["image/bmp"], "image/png")


def test_image_of_more_pixels_than_allowed_is_refused_before_it_is_unpacked() -> None:
    """15.5."""
    body = picture(np.zeros((4000, 4000), np.uint8), "PNG")
    assert len(body) < 50_000
    with pytest.raises(MalformedBody, match="4000 by 4000"):
        decode(body, "image/png", limit=MEGABYTE)


# Raw bodies


def test_bytes_and_text_are_themselves() -> None:
    body = bytes(range(256))
    for content_type in ("application/octet-stream", "audio/wav", "video/mp4", "AUDIO/x-anything; rate=16000"):
        assert decode(body, content_type) is body
    assert decode("größer".encode("latin-1"), "text/plain; charset=latin-1") == "größer"
    assert encode(body, "application/octet-stream") == (body, "application/octet-stream")
    assert encode(body, "*/*") == (body, "application/octet-stream")
    assert encode("größer", "text/plain") == ("größer".encode(), "text/plain")


def test_white_space_is_empty_only_where_bodies_are_text() -> None:
    """15.5."""
    for content_type, empty in (("application/json", True), ("application/octet-stream", False), ("audio/wav", False)):
        codec = find_codec(content_type)
        assert codec is not None
        assert is_empty(b" \n", codec) is empty
        assert is_empty(b"", codec)


def test_value_that_nothing_can_write_is_the_handlers_mistake() -> None:
    with pytest.raises(HandlerError, match="object"):
        encode(object(), "*/*")


def test_library_that_the_image_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """15.5: somebody's own base image."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "sagemaker_byoc.serving.codecs.tables")
    with pytest.raises(RequestError, match="pyarrow") as caught:
        decode(VALID[PARQUET], PARQUET)
    assert caught.value.status == 415
    with pytest.raises(NotAcceptable, match="pyarrow"):
        encode([1], PARQUET)

"""Arrow and Parquet: a `pyarrow.Table`, with the names, types and nulls that the sender gave it."""

import dataclasses
import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs.plain import as_array, as_plain, as_records, is_array
from sagemaker_byoc.serving.codecs.reading import check_size, reading

_FILE_MAGIC = b"ARROW1\0\0"
_BYTES_A_CELL = 8
_ROWS_WITH_LISTS, _ROWS_WITHOUT = 2**10, 2**16  # to a batch, after which its size is looked at


def read_arrow_stream(body: bytes, _charset: str, limit: int) -> pa.Table:
    """The table of all batches of a stream. Raises MalformedBody."""
    with reading("an Arrow stream"):
        return _read_stream(pa.py_buffer(body), limit)


def read_arrow_file(body: bytes, _charset: str, limit: int) -> pa.Table:
    """The table of an Arrow file, which is a stream between two marks. Raises MalformedBody."""
    with reading("an Arrow file"):
        if not body.startswith(_FILE_MAGIC):
            raise MalformedBody("the body is not an Arrow file: it does not start with ARROW1.")
        return _read_stream(pa.py_buffer(body)[len(_FILE_MAGIC) :], limit)


def read_parquet(body: bytes, _charset: str, limit: int) -> pa.Table:
    """The table of a Parquet file. Raises MalformedBody.

    The sizes that its footer declares are compared with `limit` first, then what has been read, batch by batch.
    """
    with reading("a Parquet file"):
        source = pa.BufferReader(body)
        file = pq.ParquetFile(source)
        check_size(_declared_parquet_size(file.metadata), limit, "a Parquet file")
        columns = [file.metadata.schema.column(number) for number in range(file.metadata.num_columns)]
        # Text stays packed until its size is known: a few bytes may repeat one long text in each of a million rows.
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        packed = pq.ParquetFile(source, read_dictionary=texts)
        size = _ROWS_WITH_LISTS if any(column.max_repetition_level for column in columns) else _ROWS_WITHOUT
        batches = [batch.cast(file.schema_arrow) for batch in _within(packed.iter_batches(size), limit)]
        return pa.Table.from_batches(batches, file.schema_arrow)


def write_arrow_stream(value: Any) -> bytes:
    """The prediction as a stream of one table."""
    table = _as_table(value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def write_arrow_file(value: Any) -> bytes:
    """The prediction as a file of one table."""
    table = _as_table(value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def write_parquet(value: Any) -> bytes:
    """The prediction as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(_as_table(value), sink)
    return sink.getvalue()


def _read_stream(body: pa.Buffer, limit: int) -> pa.Table:
    declared = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        declared += _declared_message_size(message)
        check_size(declared, limit, "an Arrow stream")
    with pa.ipc.open_stream(body) as reader:
        return pa.Table.from_batches(_within(iter(reader), limit), reader.schema)


def _within(batches: Iterator[pa.RecordBatch], limit: int) -> Iterator[pa.RecordBatch]:
    """The batches, until there is more in them than allowed."""
    size = 0
    for batch in batches:
        batch.validate(full=True)  # offsets that point outside would end the worker
        size += sum(max(_unpacked_size(column), len(column) * _BYTES_A_CELL) for column in batch.columns)
        check_size(size, limit, "a table")
        yield batch


def _unpacked_size(array: pa.Array) -> int:
    """The bytes of an array in which every repetition has its own copy."""
    if pa.types.is_dictionary(array.type):
        values = array.dictionary
        if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            return int(pc.sum(pc.binary_length(values).take(array.indices)).as_py() or 0) + 4 * len(array)
        return int(max(values.nbytes, 1) * len(array) if pa.types.is_nested(values.type) else array.nbytes)
    if pa.types.is_struct(array.type):
        return sum(_unpacked_size(array.field(number)) for number in range(array.type.num_fields))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _unpacked_size(array.flatten()) + int(array.offsets.nbytes)
    return int(array.nbytes)


def _declared_parquet_size(metadata: pq.FileMetaData) -> int:
    """The most that the footer says: pages once they are unpacked, or all rows at their width.

    A row group's columns are not looked at: where they are damaged, pyarrow ends the process.
    """
    pages = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    widths = [max(metadata.schema.column(number).length, _BYTES_A_CELL) for number in range(metadata.num_columns)]
    return int(max(pages, metadata.num_rows * sum(widths)))


def _declared_message_size(message: pa.Message) -> int:
    """The bytes that the buffers of an Arrow message say they will take once they are unpacked."""
    if message.body is None or message.type not in ("record batch", "dictionary"):
        return 0
    root = _Record.root(memoryview(message.metadata))
    if message.metadata_version != pa.ipc.MetadataVersion.V5 and root.field(4) is not None:  # Message.custom_metadata
        raise MalformedBody("the body comes from a version of Arrow before 1.0; write it with a newer one.")
    batch = root.record(2)  # Message.header
    if message.type == "dictionary":
        batch = batch.record(1) if batch else None  # DictionaryBatch.data
    if batch is None or batch.field(3) is None:  # RecordBatch.compression
        return 0
    body, size = memoryview(message.body), 0
    for offset, length in batch.pairs(2):  # RecordBatch.buffers
        if length >= 8:
            size += max(struct.unpack_from("<q", body, offset)[0], 0)
    return size


@dataclasses.dataclass(frozen=True)
class _Record:
    """A table of FlatBuffers, as far as the sizes in Arrow's messages need it: pyarrow does not tell them."""

    data: memoryview
    at: int

    @classmethod
    def root(cls, data: memoryview) -> "_Record":
        return cls(data, struct.unpack_from("<I", data, 0)[0])

    def field(self, number: int) -> int | None:
        """Where the field's value lies, or None where it is left out."""
        start = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", self.data, start)[0]:
            return None
        offset = struct.unpack_from("<H", self.data, start + 4 + 2 * number)[0]
        return self.at + offset if offset else None

    def record(self, number: int) -> "_Record | None":
        at = self.field(number)
        return None if at is None else _Record(self.data, at + struct.unpack_from("<I", self.data, at)[0])

    def pairs(self, number: int) -> Iterator[tuple[int, int]]:
        """A vector of structures of two 64-bit integers."""
        found = self.record(number)
        if found is not None:
            count = struct.unpack_from("<I", self.data, found.at)[0]
            yield from struct.iter_unpack("<qq", self.data[found.at + 4 : found.at + 4 + 16 * count])


def _as_table(value: Any) -> pa.Table:
    """A table or DataFrame as it is; a dict's columns; records by their names; an array's columns by their places."""
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value)
    try:
        value = as_array(value)
        if isinstance(value, Mapping):
            return pa.table({str(name): pa.array(as_array(column)) for name, column in value.items()})
        return _table_of_array(value) if is_array(value) else _table_of_records(value)
    except pa.ArrowException as error:
        raise TypeError(f"it is no table: {error}") from None


def _table_of_records(value: Any) -> pa.Table:
    if isinstance(value, bytes | str):
        raise TypeError("expected rows")
    records = [_as_record(record) for record in as_records(value)]
    if records and all(isinstance(record, dict) for record in records):
        return pa.Table.from_pylist(records)
    if records and all(isinstance(record, list) for record in records):
        return pa.table({str(at): list(column) for at, column in enumerate(zip(*records, strict=True))})
    return pa.table({"0": records})


def _as_record(record: Any) -> Any:
    known = isinstance(record, str | bytes | int | float | list | dict | None) and not is_array(record)
    return record if known else as_plain(record)


def _table_of_array(array: Any) -> pa.Table:
    if array.ndim > 2:
        raise TypeError(f"an array of {array.ndim} dimensions is no table")
    columns = array.T if array.ndim == 2 else [array.reshape(-1)]
    return pa.table({str(at): pa.array(column) for at, column in enumerate(columns)})

"""RecordIO-protobuf: the format of SageMaker's own algorithms, one `Record` message of tensors a record.

Source: SageMaker developer guide, "Common Data Formats for Training" and "Common data formats for inference".
"""

import functools
import io
import itertools
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from sagemaker_byoc.channels import read_records
from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs.plain import as_plain, as_records
from sagemaker_byoc.serving.codecs.reading import check_size, reading

_MAGIC = 0xCED7230A
_PACKAGE = "aialgs.data"
_Field = descriptor_pb2.FieldDescriptorProto
_TENSORS: dict[str, tuple[str, int, int, np.dtype[Any]]] = {
    "float32_tensor": ("Float32Tensor", _Field.TYPE_FLOAT, 2, np.dtype(np.float32)),
    "float64_tensor": ("Float64Tensor", _Field.TYPE_DOUBLE, 3, np.dtype(np.float64)),
    "int32_tensor": ("Int32Tensor", _Field.TYPE_INT32, 7, np.dtype(np.int32)),
}
_MOST_EXACT = 2**24


def read_recordio(body: bytes, _charset: str, limit: int) -> Any:
    """The features of all records: an array with a row for each, or a SciPy matrix where they are sparse.

    Features of several names are a dict of these, and features that are bytes a list. A record without features, such
    as the answer of the container before in a pipeline, is read by its labels.
    Raises MalformedBody.
    """
    with reading("RecordIO-protobuf"):
        records = []
        for data in read_records(io.BytesIO(body)):
            record = _record_class()()
            record.ParseFromString(data)
            fields = record.features or record.label
            records.append({name: _values(fields[name]) for name in fields})
        names = list(records[0]) if records else []
        for number, record in enumerate(records, 1):
            if not names or set(record) != set(names):
                raise MalformedBody(f"record {number} has the features {sorted(record)}; record 1 has {sorted(names)}.")
        columns = {name: _stack([record[name] for record in records], name, limit) for name in names}
        return columns[names[0]] if len(names) == 1 else columns


def write_recordio(value: Any) -> bytes:
    """A record for each prediction, with labels as SageMaker's algorithms write them: 32-bit floats, by the names of a
    dict, else `score`. Raises TypeError or ValueError for what they cannot hold.
    """
    return b"".join(_frame(_message(record).SerializeToString()) for record in as_records(value))


@functools.cache
def _record_class() -> Any:
    """The class of `Record`, made of the field numbers that AWS published."""
    file = descriptor_pb2.FileDescriptorProto(name="sagemaker_byoc/record.proto", package=_PACKAGE, syntax="proto2")
    value = descriptor_pb2.DescriptorProto(name="Value")
    value.oneof_decl.add(name="value")
    for field, (name, kind, number, _) in _TENSORS.items():
        tensor = file.message_type.add(name=name)
        _add(tensor, "values", 1, kind, packed=True)
        _add(tensor, "keys", 2, _Field.TYPE_UINT64, packed=True)
        _add(tensor, "shape", 3, _Field.TYPE_UINT64)
        _add(value, field, number, _Field.TYPE_MESSAGE, of=name, label=_Field.LABEL_OPTIONAL).oneof_index = 0
    raw = file.message_type.add(name="Bytes")
    _add(raw, "value", 1, _Field.TYPE_BYTES)
    _add(raw, "content_type", 2, _Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _add(value, "bytes", 9, _Field.TYPE_MESSAGE, of="Bytes", label=_Field.LABEL_OPTIONAL).oneof_index = 0
    file.message_type.append(value)
    record = file.message_type.add(name="Record")
    for number, (field, entry) in enumerate((("features", "FeaturesEntry"), ("label", "LabelEntry")), 1):
        pair = record.nested_type.add(name=entry)
        pair.options.map_entry = True
        _add(pair, "key", 1, _Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
        _add(pair, "value", 2, _Field.TYPE_MESSAGE, of="Value", label=_Field.LABEL_OPTIONAL)
        _add(record, field, number, _Field.TYPE_MESSAGE, of=f"Record.{entry}")
    for number, field in enumerate(("uid", "metadata", "configuration"), 3):
        _add(record, field, number, _Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()  # not the default one, where another copy of AWS's may live
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Record"))


def _add(
    message: Any,
    name: str,
    number: int,
    kind: int,
    *,
    label: int = _Field.LABEL_REPEATED,
    packed: bool = False,
    of: str = "",
) -> Any:
    field = message.field.add(name=name, number=number, type=kind, label=label)
    if packed:
        field.options.packed = True
    if of:
        field.type_name = f".{_PACKAGE}.{of}"
    return field


def _values(value: Any) -> tuple[Any, tuple[int, ...], tuple[int, ...]] | bytes:
    """A feature as its numbers, the keys of a sparse one, and its shape; or as bytes."""
    kind = value.WhichOneof("value")
    if kind == "bytes":
        return b"".join(value.bytes.value)
    if kind is None:
        raise MalformedBody("a record of the body has a feature without a value; expected a tensor or bytes.")
    tensor = getattr(value, kind)
    return np.array(tensor.values, dtype=_TENSORS[kind][3]), tuple(tensor.keys), tuple(tensor.shape)


def _stack(features: list[Any], name: str, limit: int) -> Any:
    if any(isinstance(feature, bytes) for feature in features):
        if all(isinstance(feature, bytes) for feature in features):
            return features
        raise MalformedBody(f"feature {name!r} is bytes in some records and a tensor in others; expected one of them.")
    if any(keys or (shape and not len(values)) for values, keys, shape in features):
        return _sparse_matrix(features, name)
    first, _, shape = features[0]
    for number, (values, _, own) in enumerate(features, 1):
        if len(values) != len(first) or own != shape:
            raise MalformedBody(f"record {number} has {len(values)} values of {name!r}; record 1 has {len(first)}.")
    check_size(first.nbytes * len(features), limit, "RecordIO-protobuf")
    return np.stack([values for values, _, _ in features]).reshape(len(features), *(shape or (-1,)))


def _sparse_matrix(features: list[Any], name: str) -> Any:
    """A row for each record; `shape` tells the columns, the highest key where there is none."""
    from scipy import sparse  # noqa: PLC0415 - large, and rarely asked for

    columns = [shape[-1] for _, _, shape in features if shape]
    highest = max((key for _, keys, _ in features for key in keys), default=0)
    width = max(columns) if columns else highest + 1
    if width > np.iinfo(np.int64).max or highest >= width or any(len(v) != len(keys) for v, keys, _ in features):
        raise MalformedBody(f"feature {name!r} has {width} columns; its keys do not fit its values or columns.")
    matrix = sparse.csr_matrix(
        (
            np.concatenate([values for values, _, _ in features]),
            np.array([key for _, keys, _ in features for key in keys], dtype=np.int64),
            np.array([0, *itertools.accumulate(len(keys) for _, keys, _ in features)], dtype=np.int64),
        ),
        shape=(len(features), width),
    )
    matrix.check_format(full_check=True)
    return matrix


def _message(record: Any) -> Any:
    message = _record_class()()
    if not isinstance(record, Mapping | list | tuple | int | float | np.ndarray | np.generic):
        record = as_plain(record)
    for name, value in (record if isinstance(record, Mapping) else {"score": record}).items():
        array = np.asarray(value)
        if array.dtype.kind not in "iubf":
            raise TypeError(f"a record's labels are numbers, not {array.dtype}")
        if array.dtype.kind in "iu" and np.any(np.abs(array) > _MOST_EXACT):
            raise ValueError(f"label {name!r} holds an integer that 32-bit floats cannot tell from its neighbours")
        tensor = message.label[name].float32_tensor
        tensor.values.extend(array.ravel().tolist())
        if array.ndim > 1:
            tensor.shape.extend(array.shape)
    return message


def _frame(data: bytes) -> bytes:
    return struct.pack("<II", _MAGIC, len(data)) + data + bytes(-len(data) % 4)

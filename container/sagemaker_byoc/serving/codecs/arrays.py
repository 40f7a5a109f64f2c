"""NPY and NPZ: NumPy's own files, one array or several by name. Nothing is unpickled."""

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from sagemaker_byoc.errors import MalformedBody
from sagemaker_byoc.serving.codecs.reading import check_size, reading

_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_SPARSE_KEYS = {"format", "shape", "data"}
_SPARSE_FORMATS = ("csr", "csc", "bsr", "coo", "dia")


def read_npy(body: bytes, _charset: str, limit: int) -> np.ndarray[Any, Any]:
    """The array, as `numpy.save` wrote it. Raises MalformedBody."""
    with reading("an NPY array"):
        return _read_array(body, limit)


def read_npz(body: bytes, _charset: str, limit: int) -> Any:
    """The arrays by name, as `numpy.savez` wrote them; a SciPy matrix, where `scipy.sparse.save_npz` wrote them.

    Raises MalformedBody, also where the arrays would take more than `limit` bytes together.
    """
    with reading("an NPZ file"), zipfile.ZipFile(io.BytesIO(body)) as archive:
        members = archive.infolist()
        check_size(sum(member.file_size for member in members), limit, "an NPZ file")
        arrays = {}
        for member in members:
            if not member.filename.endswith(".npy"):
                raise MalformedBody(f"the body is an NPZ file with {member.filename!r}; expected .npy arrays only.")
            arrays[member.filename.removesuffix(".npy")] = _read_array(archive.read(member), limit)
        return _sparse_matrix(arrays) if set(arrays) >= _SPARSE_KEYS else arrays


def write_npy(value: Any) -> bytes:
    """Raises TypeError for what is no array, ValueError for an array of objects."""
    out = io.BytesIO()
    np.save(out, _as_array(value), allow_pickle=False)
    return out.getvalue()


def write_npz(value: Any) -> bytes:
    """The arrays of a dict by name, or one array as `arr_0`."""
    arrays = value if isinstance(value, Mapping) else {"arr_0": value}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", write_npy(array))
    return out.getvalue()


def _read_array(body: bytes, limit: int) -> np.ndarray[Any, Any]:
    """The array of an .npy file, only after its header's promise has been compared with what there is.

    Not np.load: that would open a zip of arrays, or a pickle's error, as well.
    """
    stream = io.BytesIO(body)
    version = np.lib.format.read_magic(stream)
    if version not in _READ_HEADER:
        raise MalformedBody(f"the body is an NPY array of version {version}; expected 1.0 or 2.0.")
    shape, fortran_order, dtype = _READ_HEADER[version](stream)
    if dtype.hasobject:
        raise MalformedBody("the body is an NPY array of pickled objects; expected numbers or text.")
    count, start = math.prod(shape), stream.tell()
    # An axis of length 0 hides how long the others are, and elements of no bytes how many there are.
    cells = math.prod(max(axis, 1) for axis in shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(body) - start or cells > len(body):
        raise MalformedBody(
            f"the body is an NPY array of {len(body) - start} bytes; its header promises {count * dtype.itemsize}, for "
            f"shape {shape} and type {dtype}."
        )
    check_size(count * dtype.itemsize, limit, "an NPY array")
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, body, start, order="F" if fortran_order else "C")
    return array.copy(order="K")  # so that handlers may write into it


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.hasobject or isinstance(value, str | bytes):
        raise TypeError(f"a {type(value).__name__} is no array of numbers or text")
    return array


def _sparse_matrix(arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """SciPy's matrix, with indices that are known to lie inside: SciPy would write wherever they point."""
    from scipy import sparse  # noqa: PLC0415 - large, and rarely asked for

    kind = arrays["format"].item()
    kind = kind.decode("ascii") if isinstance(kind, bytes) else kind
    shape = tuple(int(axis) for axis in arrays["shape"])
    if kind not in _SPARSE_FORMATS or len(shape) != 2:
        raise MalformedBody(f"the body is a sparse matrix in format {kind!r} and shape {shape}; expected a csr one.")
    make = getattr(sparse, f"{kind}_matrix")
    if kind == "coo":
        return make((arrays["data"], (arrays["row"], arrays["col"])), shape=shape)
    if kind == "dia":
        return make((arrays["data"], arrays["offsets"]), shape=shape)
    matrix = make((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix

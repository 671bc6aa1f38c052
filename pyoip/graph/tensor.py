"""Tensors of a model file: sizes checked against the data before anything is allocated."""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .node import MAX_ELEMENTS, fail, plain, quote

MAX_EXTERNAL_BYTES = 2**31
"""All external data of one model: a CNN is smaller, and it ends up in memory."""

_PACKED = {"UINT4": 4, "INT4": 4, "FLOAT4E2M1": 4, "UINT2": 2, "INT2": 2}
_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


class TensorReader:
    """Turns the `TensorProto` of one model into NumPy arrays.

    Parameters
    ----------
    source : str
        What error messages call the model.
    folder : Path or None
        Where external data must lie; None for a model in memory, which then may have none.
    """

    def __init__(self, source: str, folder: Path | None) -> None:
        self.source = source
        self.folder = folder

    def measure(self, tensors: Iterable[TensorProto]) -> None:
        """Check the sizes of all tensors, and of all external data together, reading none."""
        total = 0
        for tensor in tensors:
            if tensor.data_type != TensorProto.STRING:
                _, size = self._sizes(tensor, name_of(tensor))
                total += size if tensor.data_location == TensorProto.EXTERNAL else 0
        if total > MAX_EXTERNAL_BYTES:
            problem = f"{total} bytes of external data; at most {MAX_EXTERNAL_BYTES}"
            raise fail(self.source, problem, "use a smaller network")

    def read(self, tensor: TensorProto, what: str) -> np.ndarray[Any, Any] | None:
        """Return the array, or None for text; raise `ModelError` if it is damaged or not finite."""
        if tensor.data_type == TensorProto.STRING:
            return None
        count, size = self._sizes(tensor, what)
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = self._fetch(tensor, what, size)
        self._check_data(tensor, what, count, size)
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # whatever a damaged tensor makes the library raise
            raise self._fail(what, f"cannot be read ({plain(error)})") from None
        if array.dtype.kind not in "biu" and not _finite(array):
            raise self._fail(what, "holds NaN or infinite values", "train or export it again")
        return array

    def _fail(self, what: str, problem: str, remedy: str = "fetch or export it again") -> Exception:
        return fail(self.source, f"{what} {problem}", remedy)

    def _sizes(self, tensor: TensorProto, what: str) -> tuple[int, int]:
        dims = list(tensor.dims)
        if any(d < 0 for d in dims):
            raise self._fail(what, f"has dimensions {dims}; none may be negative")
        count = math.prod(dims)
        if count > MAX_ELEMENTS:
            raise self._fail(what, f"has dimensions {dims}, {count} values; at most {MAX_ELEMENTS}")
        if tensor.HasField("segment"):
            raise self._fail(what, "is stored in segments", "export the model again without them")
        try:
            kind = TensorProto.DataType.Name(tensor.data_type)
            item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        except (ValueError, KeyError, TypeError):
            raise self._fail(what, f"has the unknown data type {tensor.data_type}") from None
        return count, -(-count * _PACKED[kind] // 8) if kind in _PACKED else count * item

    def _check_data(self, tensor: TensorProto, what: str, count: int, size: int) -> None:
        dims = list(tensor.dims)
        if tensor.HasField("raw_data"):
            held = len(tensor.raw_data)
            if held != size:
                raise self._fail(what, f"has {held} bytes but dimensions {dims} need {size}")
            return
        held = max(len(getattr(tensor, field)) for field in _FIELDS)
        packed = TensorProto.DataType.Name(tensor.data_type) in _PACKED
        twice = 2 if "COMPLEX" in TensorProto.DataType.Name(tensor.data_type) else 1
        if held != (size if packed else count * twice):
            raise self._fail(what, f"has {held} values but dimensions {dims} need {count}")

    # --- external data -----------------------------------------------------------------------

    def _fetch(self, tensor: TensorProto, what: str, size: int) -> TensorProto:
        """Return a copy of `tensor` with its data read from the file that it names."""
        path, offset, length = self._place(tensor, what)
        if length is not None and length != size:
            raise self._fail(what, f"has {length} external bytes but its dimensions need {size}")
        fetched = TensorProto(dims=tensor.dims, data_type=tensor.data_type)
        fetched.raw_data = self._bytes(path, offset, size, what)
        return fetched

    def _place(self, tensor: TensorProto, what: str) -> tuple[Path, int, int | None]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        numbers: dict[str, int | None] = {"offset": 0, "length": None}
        for key in numbers:
            text = str(entries.get(key, ""))
            if text and not (text.isascii() and text.isdigit() and len(text) < 19):
                raise self._fail(what, f"has the external {key} {quote(text)}; must be a number")
            if text:
                numbers[key] = int(text)
        path = self._inside(str(entries.get("location", "")), what)
        return path, numbers["offset"] or 0, numbers["length"]

    def _inside(self, location: str, what: str) -> Path:
        if self.folder is None:
            raise self._fail(
                what,
                f"is external data {quote(location)} of a model in memory",
                "pass the path of the model, or onnx.load it with its external data",
            )
        outside = f"is external data {quote(location)} outside the model's folder"
        remedy = "put the data file beside the model and export again"
        if not location or "\0" in location or Path(location).is_absolute():
            raise self._fail(what, outside, remedy)
        folder = self.folder.resolve()
        with contextlib.suppress(OSError, RuntimeError):
            path = (folder / location).resolve()
            if path.is_relative_to(folder):
                return path
        raise self._fail(what, outside, remedy)

    def _bytes(self, path: Path, offset: int, size: int, what: str) -> bytes:
        place = f"external data file {quote(path.name)}"
        try:
            with open(path, "rb", opener=_open_plain) as file:
                held = os.fstat(file.fileno())
                if not stat.S_ISREG(held.st_mode):
                    raise self._fail(what, f"has the {place}, which is not a plain file")
                if offset + size > held.st_size:
                    raise self._fail(
                        what,
                        f"needs bytes {offset}..{offset + size} of the {place}, "
                        f"which has {held.st_size}",
                    )
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise self._fail(
                what, f"has the {place}, which cannot be read ({plain(error.strerror)})"
            ) from None


def name_of(tensor: TensorProto) -> str:
    """Return what messages call a weight tensor."""
    return f"weight tensor {quote(tensor.name)}"


def _open_plain(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _finite(array: np.ndarray[Any, Any]) -> bool:
    values = array if array.dtype.kind in "fc" else array.astype(np.float32)
    return bool(np.isfinite(values).all())

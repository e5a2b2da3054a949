"""Arrow arrays of numpy's and of Python's values, made of buffers.

``pyarrow.array`` asks pandas what it was given, and imports it for that: a quarter of a second of the first query that
calls a function of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa


def of_numpy(values: np.ndarray, valid: np.ndarray | None = None) -> pa.Array:
    """Numbers or booleans. ``valid``: a boolean for each; the others are NULL."""
    import pyarrow as pa

    values = np.ascontiguousarray(values)
    data = np.packbits(values, bitorder="little") if values.dtype == np.bool_ else values
    bits, nulls = bitmap(valid)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [bits, pa.py_buffer(data)], nulls)


def of_values(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Numbers, booleans or text, and None. Raises ArrowInvalid where a number does not fit."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_string(type_) or kinds.is_large_string(type_):
        return _of_texts(values, kinds.is_large_string(type_))
    for is_kind, dtype in (
        (kinds.is_boolean, np.bool_),
        (kinds.is_uint64, np.uint64),
        (kinds.is_integer, np.int64),
        (kinds.is_floating, np.float64),
    ):
        if is_kind(type_):
            numbers = np.array([0 if v is None else v for v in values], dtype)
            found = of_numpy(numbers, valid_of(values))
            return found if found.type == type_ else found.cast(type_)
    return pa.array(values, type_)


def scalar(value: Any, type_: pa.DataType) -> pa.Scalar:
    """One of ``of_values``: an argument of Arrow's functions, which would ask pandas about a bare value, too."""
    return of_values([value], type_)[0]


def _of_texts(values: Sequence[str | None], wide: bool) -> pa.Array:
    import pyarrow as pa

    texts: list[Any] = ["" if v is None else v for v in values]
    chars: str | bytes = "".join(texts)
    if not chars.isascii():
        texts = [text.encode() for text in texts]
        chars = b"".join(texts)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    wide |= bool(offsets[-1] >= 1 << 31)
    raw = chars if isinstance(chars, bytes) else chars.encode()
    valid = valid_of(values)
    type_, places = (pa.large_string(), offsets) if wide else (pa.string(), offsets.astype(np.int32))
    bits, nulls = bitmap(valid)
    return pa.Array.from_buffers(type_, len(texts), [bits, pa.py_buffer(places), pa.py_buffer(raw)], nulls)


def bitmap(valid: np.ndarray | None) -> tuple[pa.Buffer | None, int]:
    """The bitmap of what is valid, and how many are not."""
    import pyarrow as pa

    if valid is None:
        return None, 0
    return pa.py_buffer(np.packbits(valid, bitorder="little")), len(valid) - int(np.count_nonzero(valid))


def valid_of(values: Sequence[Any]) -> np.ndarray | None:
    """What is not None; None: all."""
    return np.array([v is not None for v in values], np.bool_) if None in values else None

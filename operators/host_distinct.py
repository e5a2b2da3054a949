"""Functions of the host that go value by value, called once for each different row of arguments.

A call in Python takes as long as Arrow takes to find a hundred rows among those before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.operators import watch
from finequery.operators.arrow_arrays import of_numpy
from finequery.operators.calendar import DAY
from finequery.operators.dictionary import numbers
from finequery.operators.encode import mask_of
from finequery.operators.host_dates import grain
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows from which on it pays to look, and the most distinct ones of a row for which it does.
ROWS, MOST = 1000, 0.9


def over_distinct(function: Callable[[list[Any], int], Any], args: list[Any], rows: int) -> Any:
    """``function`` of arguments, arrays of so many rows and constants, and of their length."""
    arrays = [a for a in args if hasattr(a, "null_count")]
    found = watch.aside(rows, _distinct, arrays) if rows >= ROWS else None
    if found is None:
        return function(args, rows)
    firsts, codes = found
    result = function([a.take(firsts) if hasattr(a, "null_count") else a for a in args], len(firsts))
    return watch.aside(rows, _spread, result, codes)


def _distinct(arrays: Sequence[pa.Array]) -> tuple[pa.Array, pa.Array] | None:
    """The first row of each different one, and for each row which of them it is like; None where most differ, or Arrow
    can't tell. NULL is a value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    codes: np.ndarray | None = None
    count = 1
    for array in arrays:
        if pa.types.is_floating(array.type):  # 0.0 is not -0.0
            array = array.view(pa.int32() if array.type == pa.float32() else pa.int64())
        try:
            coded = pc.dictionary_encode(array, null_encoding="encode")
        except pa.ArrowNotImplementedError:
            return None
        own = numbers(coded.indices)
        if codes is not None:
            coded = pc.dictionary_encode(of_numpy(codes.astype(np.int64) * len(coded.dictionary) + own))
            own = numbers(coded.indices)
        codes, count = own, len(coded.dictionary)
        if count > MOST * len(codes):
            return None
    assert codes is not None
    firsts = np.empty(count, np.int64)
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return of_numpy(firsts), of_numpy(codes)


def _spread(found: Any, codes: pa.Array) -> Any:
    """The value of each row. Text stays a dictionary, which is how it is encoded next."""
    import pyarrow as pa

    values = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return values.take(codes)
    different = values.dictionary_encode()
    return pa.DictionaryArray.from_arrays(different.indices.take(codes), different.dictionary)


def coarse(name: str, args: list[Any], types: Sequence[SqlType]) -> list[Any]:
    """The arguments without what the function does not look at: the time of day of what asks for a date's day."""
    known = grain(name, args[1:])
    if known in (None, (1, True)) or not types[0].is_timestamp or not hasattr(args[0], "null_count"):
        return args
    assert known is not None
    unit, dated = known
    moments = args[0]
    micros = numbers(moments.view("int64"))
    micros = micros - micros % unit if dated else micros % DAY // unit * unit
    return [of_numpy(micros, mask_of(moments)).view(moments.type), *args[1:]]

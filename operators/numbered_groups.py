"""Numbers of groups for keys that do not fit one word (text, wide values, many columns): rows are numbered first."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators import dictionary as dictionaries
from finequery.operators.build import number_keys, padded
from finequery.operators.column import ColumnData
from finequery.operators.distinct_texts import number_texts
from finequery.operators.export import column_to_arrow
from finequery.operators.join_keys import as_bytes, valid_flags
from finequery.operators.lower import NONE
from finequery.operators.pool import Pool
from finequery.operators.result_columns import code_column

#: Kinds whose values are told apart by their bytes.
_BYTES = ("string", "int128", "interval")


def as_codes(column: ColumnData) -> ColumnData:
    """A text column as codes of a sorted dictionary of its own."""
    coded = column_to_arrow(column).dictionary_encode()
    dictionary, ranks = dictionaries.build(coded.dictionary)
    codes = ranks[coded.indices.fill_null(0).to_numpy()] if len(ranks) else np.zeros(column.length, dtype=np.int64)
    return code_column(column.type, codes, dictionary, valid_flags(column))


def number_groups(
    columns: list[ColumnData], count: int, pool: Pool, device: Any = None
) -> tuple[np.ndarray, int, np.ndarray]:
    """Number the rows' groups in order of appearance: numbers (u32), how many, first row of each (u32). NULL is a
    value. ``device``: the GPU that does it, if not the CPU."""
    if device is not None and columns and count:
        from finequery.operators.cuda.groups import number_on_gpu

        return number_on_gpu(columns, count, device)
    if len(columns) == 1 and columns[0].kind in _BYTES and columns[0].validity is None:
        found, firsts, _ = number_texts(*as_bytes(columns[0]), None, count, pool)
        return found, len(firsts), firsts
    numbers: np.ndarray | None = None
    size = 1
    for column in columns:
        digits, span = _group_digits(column, count, pool)
        if numbers is None:
            packed = digits
        else:
            packed = padded(count, np.int64)
            packed[:] = numbers[:count]
            packed *= span
            packed += digits
        size, numbers, *_ = number_keys(packed)
    if numbers is None:
        return padded(count, np.uint32), 1, padded(1, np.uint32)
    firsts = padded(size, np.uint32)
    firsts[numbers[:count][::-1]] = np.arange(count - 1, -1, -1, dtype=np.uint32)
    return numbers, size, firsts


def _group_digits(column: ColumnData, count: int, pool: Pool) -> tuple[np.ndarray, int]:
    """A column as int64 digits below a span of 2**32, NULL as one of them."""
    flags = valid_flags(column)
    digits = padded(count, np.int64)
    if column.kind in ("uint", "dict"):
        digits[:] = column.data[:count]
    else:
        if column.kind in _BYTES:
            numbers = number_texts(*as_bytes(column), column.validity, count, pool)[0]
            numbers[numbers == NONE] = 0
        else:
            keys = padded(count, np.int64)
            if column.kind in ("float32", "float64"):
                doubles = column.data[:count].astype(np.float64) + 0.0
                doubles[np.isnan(doubles)] = np.nan
                keys[:] = doubles.view(np.int64)
            else:
                keys[:] = column.data[:count]
            _, numbers, *_ = number_keys(keys)
        digits[:] = numbers[:count]
    if flags is not None:
        digits += 1
        digits[~flags] = 0
    return digits, int(digits.max(initial=0)) + 1

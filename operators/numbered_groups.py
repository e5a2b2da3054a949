"""Numbers of groups for keys that do not fit one word (text, wide values, many columns): rows are numbered first."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators import dictionary as dictionaries
from finequery.operators.arrow_arrays import scalar
from finequery.operators.build import padded
from finequery.operators.column import ColumnData
from finequery.operators.distinct import number_keys, number_texts
from finequery.operators.export import column_to_arrow
from finequery.operators.group_modes import MOST_PACKED
from finequery.operators.join_keys import as_bytes, valid_flags
from finequery.operators.lower import NONE
from finequery.operators.pool import Pool
from finequery.operators.result_columns import code_column

#: Kinds whose values are told apart by their bytes.
_BYTES = ("string", "int128", "interval")
#: Range of values from which on the numbers of the distinct ones are their digits.
_WIDE = 1 << 30


def as_codes(column: ColumnData) -> ColumnData:
    """A text column as codes of a sorted dictionary of its own."""
    coded = column_to_arrow(column).dictionary_encode()
    dictionary, ranks = dictionaries.build(coded.dictionary)
    codes = (
        ranks[dictionaries.numbers(coded.indices.fill_null(scalar(0, coded.indices.type)))]
        if len(ranks)
        else np.zeros(column.length, dtype=np.int64)
    )
    return code_column(column.type, codes, dictionary, valid_flags(column))


def number_groups(
    columns: list[ColumnData], count: int, pool: Pool, device: Any = None
) -> tuple[np.ndarray, int, np.ndarray]:
    """Number the rows' groups in order of appearance: numbers (u32), how many, first row of each (u32). NULL is a
    value. ``device``: the GPU that does it, if not the CPU."""
    if device is not None and columns and count:
        from finequery.operators.cuda.groups import number_on_gpu

        return number_on_gpu(columns, count, device)
    if not columns:
        return padded(count, np.uint32), 1, padded(1, np.uint32)
    if len(columns) == 1 and columns[0].kind in _BYTES and columns[0].validity is None:
        numbers, firsts, _ = number_texts(*as_bytes(columns[0]), None, count, pool)
        return numbers, len(firsts), firsts
    packed, span = _digits(columns[0], count, pool)
    for column in columns[1:]:
        digits, width = _digits(column, count, pool)
        if span * width > MOST_PACKED:  # the distinct ones are fewer than 2**32
            numbers, firsts = number_keys(packed, pool)
            packed[:], span = numbers, len(firsts)
        packed *= width
        packed += digits
        span *= width
    numbers, firsts = number_keys(packed, pool)
    return numbers, len(firsts), firsts


def _digits(column: ColumnData, count: int, pool: Pool) -> tuple[np.ndarray, int]:
    """A column as int64 digits from 0 to below a span of at most 2**30 or its number of rows, NULL as one of them."""
    flags = valid_flags(column)
    digits = padded(count, np.int64)
    if column.kind in _BYTES:
        numbers, firsts, _ = number_texts(*as_bytes(column), column.validity, count, pool)
        numbers[numbers == NONE] = 0
        digits[:], span = numbers, len(firsts)
    else:
        if column.kind in ("float32", "float64"):
            doubles = column.data[:count].astype(np.float64) + 0.0
            doubles[np.isnan(doubles)] = np.nan
            digits[:] = doubles.view(np.int64)
        else:
            digits[:] = column.data[:count]
        low, high = (int(digits.min()), int(digits.max())) if count else (0, 0)
        span = high - low + 1
        if span <= _WIDE:
            digits -= low
        else:
            numbers, firsts = number_keys(digits, pool)
            digits[:], span = numbers, len(firsts)
    if flags is not None:
        digits += 1
        digits[~flags] = 0
        span += 1
    return digits, max(span, 1)

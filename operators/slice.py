"""Some rows of columns, in a row, without copying more than the NULL bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from finequery.operators.column import ColumnData, Frame, Stats


def slice_column(column: ColumnData, start: int, stop: int) -> ColumnData:
    """Rows ``start`` to ``stop`` (which must lie in the column)."""
    per_row = 2 if column.kind in ("int128", "interval") else 1
    end = stop * per_row + (column.kind == "string")
    validity = column.validity
    if validity is not None:
        bits = np.unpackbits(validity[start // 8 : -(-stop // 8)], bitorder="little")[start % 8 :][: stop - start]
        words = np.zeros(-(-(stop - start) // 64) * 64, np.uint8)
        words[: stop - start] = bits
        validity = np.packbits(words, bitorder="little")
    stats = Stats(low=column.stats.low, high=column.stats.high, ascii=column.stats.ascii, nulls=column.stats.nulls)
    return replace(
        column,
        length=stop - start,
        data=column.data[start * per_row : end],
        validity=validity,
        stats=stats,
        owner=column,
    )


def slice_frame(frame: Frame, ids: Sequence[int], start: int, stop: int) -> Frame:
    """Rows ``start`` to ``stop`` of the columns ``ids``."""
    start, stop = min(start, frame.length), min(stop, frame.length)
    return Frame({i: slice_column(frame.columns[i], start, stop) for i in ids}, stop - start)

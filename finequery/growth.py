"""Queries over more rows than there are: what samples of the largest table say of how their work grows.

A query is counted over a quarter, half and all of the table's rows (every fourth, every second, each: the other tables
stay as they are). Each number of its sub-tasks goes on growing as it did between half and all, by a power of the rows
from 0 to 1: keys and groups that the sample has found already do not come again. What that is worth is known: from the
quarter and the half the whole is foreseen too, and there is what was counted. How far the two lie apart on a board
widens the interval, once for each doubling.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from finequery.errors import DataError, ProgrammingError
from finequery.planner.stages import Part

if TYPE_CHECKING:
    from finequery.compare.simulate import Counted
    from finequery.compare.work import Work
    from finequery.jetson.board import Board
    from finequery.perfmodel.features import Features
    from finequery.simulation import OnBoard

#: What grows with the data; everything else (widths, shares, steps) stays as it is.
GROWING = ("rows", "rows_out", "table_bytes", "distinct", "groups")
#: What grows where two plans cannot be compared: numbers from here on, in proportion to the data.
LARGE = 1000.0
#: Rows of the table below which samples say nothing, and how often it may grow by its size.
LEAST_ROWS, MOST_TIMES = 10_000, 16.0


def continued(small: Sequence[Part], large: Sequence[Part], step: float, times: float) -> list[Part]:
    """The pipelines of a plan over ``times`` the data of ``large``, which is ``step`` times that of ``small``: each
    number goes on growing by its power of the data, from 0 (as of a table of fixed size) to 1. Where the two plans are
    of different form, all numbers that are not small grow in proportion."""
    shapes = [[(part.info.after, [f.kind for f in part.features]) for part in parts] for parts in (small, large)]
    if shapes[0] != shapes[1]:
        return [Part(b.info, tuple(_grown(f, None, step, times) for f in b.features)) for b in large]
    return [
        Part(b.info, tuple(_grown(f, g, step, times) for f, g in zip(b.features, a.features)))
        for b, a in zip(large, small)
    ]


def _grown(now: Features, before: Features | None, step: float, times: float) -> Features:
    values = {}
    for name in GROWING:
        large = getattr(now, name)
        small = getattr(before, name) if before is not None else large / (step if large >= LARGE else 1.0)
        power = math.log(large / small) / math.log(step) if small > 0 and large > 0 else 1.0
        values[name] = large * times ** min(max(power, 0.0), 1.0)
    return replace(now, **values)


@dataclass(frozen=True, slots=True)
class Grown:
    """Queries that were counted over a quarter, half and all rows of ``table``, to be put on boards as they would be
    over ``times`` as many."""

    table: str
    rows: int
    times: float
    samples: tuple[Sequence[Counted], Sequence[Counted], Sequence[Counted]]

    def on(self, place: int, board: Board, objective: str) -> OnBoard:
        """A query on a board."""
        from finequery import simulation

        quarter, half, whole = (sample[place] for sample in self.samples)
        more = replace(whole, parts=continued(half.parts, whole.parts, 2.0, self.times))
        found = simulation.on(more, board, objective=objective, size=self.size([place]))
        foreseen = replace(whole, parts=continued(quarter.parts, half.parts, 2.0, 2.0))
        took = [simulation.on(one, board, objective=objective).seconds for one in (foreseen, whole)]
        missed = max(took) / min(took) if min(took) > 0 else 1.0
        wider = missed ** math.log2(self.times)
        return replace(found, low=found.low / wider, high=found.high * wider)

    def size(self, places: Sequence[int]) -> float:
        """Bytes of the columns that queries read: those of the table grow."""
        from finequery.simulation import stored

        half, whole = (stored([sample[place] for place in places]) for sample in self.samples[1:])
        return whole + 2.0 * (whole - half) * (self.times - 1.0)


def grow(work: Work, rows: int, progress: Callable[[str], None] = lambda name: None) -> Grown:
    """Count queries over samples of the largest of their tables, to have ``rows``. Raises DataError where it has too
    few rows, has more already, or would grow too far."""
    from finequery.compare.simulate import counted

    with work.open() as connection:
        counts = {name: connection.sql(f'select count(*) from "{name}"').fetchall()[0][0] for name in work.tables}
        if not counts:
            raise ProgrammingError("There is no table that could grow", hint="--data FILE …")
        table = max(counts, key=counts.__getitem__)
        count = counts[table]
        if count < LEAST_ROWS:
            raise DataError(f'"{table}" has {count:,} rows: too few to see how work grows with them')
        if not count <= rows <= MOST_TIMES * count:
            raise DataError(
                f'"{table}" has {count:,} rows; {rows:,} are {"fewer" if rows < count else "too many more"}',
                hint=f"--scale-to from {count:,} to {int(MOST_TIMES * count):,}.",
            )
        data = connection.sql(f'select * from "{table}"').arrow()
    with tempfile.TemporaryDirectory() as folder:
        samples = [counted(_sampled(work, table, data, every, Path(folder)), progress) for every in (4, 2)]
    return Grown(table, count, rows / count, (samples[0], samples[1], counted(work, progress)))


def _sampled(work: Work, table: str, data: object, every: int, folder: Path) -> Work:
    """The same queries over every so manieth row of a table."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    assert isinstance(data, pa.Table)
    path = folder / f"{every}.parquet"
    pq.write_table(data.take(np.arange(0, data.num_rows, every)), path)
    return replace(work, tables={**work.tables, table: path})

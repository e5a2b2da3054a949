"""Where rows come from: tables in memory and tables outside (Arrow, pandas, Parquet, CSV), behind one interface."""

from __future__ import annotations

from collections.abc import Sequence

from finequery.operators.column import ColumnData, Stats
from finequery.types import SqlType


class Table:
    """A named set of columns. Subclasses load and encode columns when they are first asked for."""

    name: str
    columns: tuple[tuple[str, SqlType], ...]
    version: int = 0  # grows with every change of the contents

    @property
    def rows(self) -> int:
        """Number of rows."""
        raise NotImplementedError

    def load(self, names: Sequence[str]) -> list[ColumnData]:
        """The encoded columns, in the order asked for; kept for the next time where the contents can't change."""
        raise NotImplementedError

    def stats(self, name: str) -> Stats | None:
        """What is known of a column without loading it (or after it was loaded); None: nothing."""
        return None

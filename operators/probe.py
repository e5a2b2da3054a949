"""Probe: the left side of a join looks its rows up in a built side, inside its pipeline (lower_probe.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators.build import Lookup, padded
from finequery.operators.column import ColumnData, Frame
from finequery.operators.expr import Column, Expr
from finequery.operators.join_keys import as_stored, make_lookup
from finequery.operators.pool import Pool
from finequery.operators.program import Symbol

#: Largest table of a payload by key: it should stay in the second-level cache.
PAYLOAD_BYTES = 1 << 19


@dataclass(eq=False)
class Probe:
    """One probe step of a pipeline: the logical join's kind, keys and columns, and the look-up of the current run."""

    kind: str
    build: Any  # the operator that produces the right side
    keys: tuple[tuple[Expr, Expr], ...]
    payload: tuple[Column, ...]  # right columns that are read above
    condition: Expr | None = None
    null_safe: bool = False
    null_aware: bool = False
    mark: Column | None = None
    estimate: float | None = None
    lookup: Lookup | None = None
    built: tuple[str, str, int] | None = None  # kind, reason and bytes of the last run's look-up
    track: Symbol | None = None  # full joins: a byte per build row that found a partner

    @property
    def need_rows(self) -> bool:
        return self.kind not in ("semi", "anti", "mark")

    def prepare(
        self, frame: Frame, evaluate: Callable[[list[Expr], Frame], list[ColumnData]], pool: Pool, probes: int
    ) -> None:
        """Build the look-up from the right side's rows, for at most ``probes`` probing rows."""
        columns = evaluate([right for _, right in self.keys], frame) if self.keys else []
        self.lookup = make_lookup(frame, columns, self.null_safe, self.need_rows, pool, probes)
        if self.kind == "inner" and self.lookup.kind == "rows" and as_stored(columns, self.null_safe):
            self._add_payloads(self.lookup, columns[0], probes)
        self.built = self.lookup.kind, self.lookup.reason, self.lookup.nbytes

    def _add_payloads(self, lookup: Lookup, keys: ColumnData, probes: int) -> None:
        """Narrow columns of the build side by key, so that one look-up gives the value."""
        if lookup.span * 4 > probes or keys.validity is not None:
            return
        for column in self.payload:
            data = lookup.frame.columns[column.id]
            if data.kind not in ("uint", "dict") or data.validity is not None or data.data.itemsize > 2:
                continue
            if lookup.span * data.data.itemsize <= PAYLOAD_BYTES:
                table = padded(lookup.span + 1, data.data.dtype)
                table[keys.data[: keys.length].astype(np.int64) - (lookup.low - keys.base)] = data.data[: data.length]
                lookup.payloads[column.id] = table

    @property
    def signature(self) -> tuple[Any, ...]:
        assert self.lookup is not None
        columns = tuple(
            column_signature(self.lookup.frame.columns[c.id]) for c in self.payload if c.id in self.lookup.frame.columns
        )
        return self.lookup.signature + columns

    def current(self) -> Lookup:
        assert self.lookup is not None
        return self.lookup


def column_signature(data: ColumnData) -> tuple[Any, ...]:
    """All of a column that a program compiled over it depends on, addresses apart."""
    return (
        *(data.type, data.kind, data.data.itemsize, data.base, data.scale, data.validity is None),
        *(data.dictionary, data.stats.low, data.stats.high, data.stats.ascii, data.stats.sorted),
        *(data.stats.code_low, data.stats.code_high),
    )

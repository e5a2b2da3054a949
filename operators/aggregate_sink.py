"""The end of a pipeline that groups: chooses how, lowers the calls, gives the result's columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finequery.operators.accumulators import Accumulators
from finequery.operators.aggregate_calls import Call, CallLowering, Final
from finequery.operators.array_groups import ArrayGroups
from finequery.operators.column import ColumnData, Frame
from finequery.operators.concat import constant_column, empty_column
from finequery.operators.expr import Column
from finequery.operators.group_keys import GroupKey, NeedsNumbers, digits_of, plain_source
from finequery.operators.group_modes import ALWAYS_DENSE, GroupMode, group_mode
from finequery.operators.lower import Lower, Stored, bounds_of
from finequery.operators.pool import Pool
from finequery.operators.program import Out, Reg
from finequery.operators.row_tables import RowTables
from finequery.operators.run_groups import RunGroups
from finequery.operators.tabulate import stored_digits

#: Most groups that are added up by masked vector sums (reference: cpu-execution 4.8).
FEW = 8
#: Aggregates for which a rejected row may be added to a group that is thrown away.
ADDED_UP = frozenset(("count_star", "count", "sum", "avg", "min", "max"))
#: Aggregates whose result is a row number: rows must stay where they are.
KEEPS_ROWS = frozenset(("first", "any_value"))


@dataclass(slots=True, eq=False)
class Given:
    """A column that tells the groups apart as it is: their numbers below ``count``, or, where the morsels are
    partitions by it, a key of one word of about ``count`` groups."""

    column: Column
    count: int
    partitioned: bool = False


class AggregateSink:
    """The sink. ``expected``: groups by estimate (None: unknown). ``given``: the groups are computed already; the
    result holds the calls alone, ``picked`` what tells its groups apart."""

    def __init__(
        self, groups: list[Column], calls: list[Call], expected: float | None = None, given: Given | None = None
    ):
        self.columns = groups
        self.calls = calls
        self.expected = expected
        self.given = given
        self.mode = GroupMode("scalar", "")
        self.groups: Any = None
        self.keys: list[GroupKey] = []
        self.accumulators = Accumulators(False)
        self.finals: list[Final] = []
        self.picked = np.zeros(0, dtype=np.int64)

    # --- lowering ----------------------------------------------------------------------------------------------------

    def lower_into(self, lower: Lower) -> None:
        self._choose(lower)
        groups = self.groups
        few: Reg | None = None
        domain = groups.domain if isinstance(groups, ArrayGroups) else 0
        self.accumulators = Accumulators(isinstance(groups, RowTables), domain and domain + 1)
        masked = self.mode.name == "dense" and domain <= FEW
        mask, lower.deferred = lower.deferred, None
        if mask is not None:
            # the rows that the filter rejects are added up too, in a group behind the last one that nobody reads
            assert isinstance(groups, ArrayGroups) and groups.number is not None
            if masked:
                few = Reg(1)
                lower.emit("masked_group", groups.number, mask, domain, Out(few))
            trash = Reg(4)
            lower.emit("trash_group", groups.number, mask, domain, Out(trash))
            groups.number = trash
            lower.active = mask
        elif masked:
            few = Reg(1)
            lower.emit("byte_group", groups.number, Out(few))
        calls = CallLowering(lower, self.accumulators, groups, few, domain, lower.most_rows)
        if isinstance(groups, ArrayGroups) and (groups.all_occur or not self.calls):
            groups.presence = calls.count(None)
        self.finals = [calls.lower_call(call) for call in self.calls]
        if isinstance(groups, RowTables):
            groups.lowered()

    def _choose(self, lower: Lower) -> None:
        """How groups are told apart: ``mode``, ``groups``, ``keys``."""
        self._told_apart(lower)
        domain = self.groups.domain if isinstance(self.groups, ArrayGroups) else ALWAYS_DENSE + 1
        if self.given is None and domain > ALWAYS_DENSE and any(call.exact for call in self.calls):
            raise NeedsNumbers  # exact sums are large: no group may have one that does not occur

    def _told_apart(self, lower: Lower) -> None:
        given = self.given
        if given is not None:
            stored = lower.stored(given.column)
            assert stored is not None
            if given.partitioned:
                self.mode = group_mode(1, lower.most_rows, given.count, None)
                self.groups = RowTables(lower, lower.source(stored), given.count, partitioned=True)
            else:
                self.mode = group_mode(1, lower.most_rows, given.count, None, packed=False)
                self.groups = ArrayGroups(stored_digits(lower, stored), given.count)
            return
        rows = lower.most_rows
        ordered = self._ordered(lower) if not lower.gpu else None
        if ordered is not None:
            low, high = bounds_of(ordered.data)
            span = (high - low) // ordered.data.scale + 1
            self.mode = group_mode(1, rows, self.expected, span, ordered=True)
            if self.mode.name == "runs":
                self.groups = RunGroups(lower, ordered)
                base, scale = ordered.data.base, ordered.data.scale
                self.keys = [GroupKey(self.columns[0], high - low + 1, base, scale, False, kind="stored")]
                return
        if not self.columns:
            self.mode = group_mode(0, rows, None, None)
            self.groups = ArrayGroups(None, 1)
            return
        digits = digits_of(lower, self.columns)
        self.keys = digits.keys
        self.mode = group_mode(
            len(self.columns),
            rows,
            self.expected,
            digits.domain,
            narrow=digits.narrow,
            packed=digits.packable,
            passing=lower.expected_rows,
            gpu=lower.gpu,
        )
        if self.mode.name == "dense":
            self.groups = ArrayGroups(digits.pack(lower, wide=False), digits.domain)
        elif self.mode.name == "hash":
            source = plain_source(lower, self.columns[0]) if len(self.columns) == 1 else None
            expected = self.expected if self.expected is not None else 0.0
            alone = len(self.columns) == 1 and not self.keys[0].nullable
            gives_up = alone and all(c.name not in KEEPS_ROWS for c in self.calls)
            source = source or (digits.pack(lower, wide=True), 0)
            self.groups = RowTables(lower, source, expected, gives_up=gives_up)
        else:
            raise NeedsNumbers

    def _ordered(self, lower: Lower) -> Stored | None:
        """The group column if it is the only one, a column of the pipeline's own source, and sorted."""
        found = lower.resolve(self.columns[0]) if len(self.columns) == 1 else None
        if not isinstance(found, Stored) or found.rows is not None or not found.data.stats.sorted:
            return None
        if found.data.kind not in ("uint", "int64") or found.data.validity is not None:
            return None
        return found

    def defers(self, lower: Lower) -> bool:
        """Whether a filter that most rows pass may be left to this sink: few groups, and known as such."""
        domain = 1
        for column in self.columns:
            stored = lower.stored(column)
            if stored is None or stored.data.kind not in ("uint", "dict"):
                return False
            low, high = bounds_of(stored.data) if stored.data.kind == "uint" else (0, len(stored.data.dictionary or ()))
            domain *= (high - low) // stored.data.scale + 2
        return bool(self.columns) and domain <= 256 and all(c.name in ADDED_UP for c in self.calls)

    def empty(self) -> Frame:
        """What comes out when no row can: no group, or the one row of an aggregate over everything."""
        if self.columns:
            return Frame({c.id: empty_column(c.type) for c in (*self.columns, *(k.output for k in self.calls))}, 0)
        zero = ("count", "count_star")
        return Frame(
            {c.output.id: constant_column(c.output.type, 0 if c.name in zero else None, 1) for c in self.calls}, 1
        )

    # --- one run -----------------------------------------------------------------------------------------------------

    @property
    def instance(self) -> Any:
        """The running program."""
        return self.groups.instance

    @instance.setter
    def instance(self, instance: Any) -> None:
        self.groups.instance = instance

    @property
    def wants_segments(self) -> bool:
        return bool(self.groups.wants_segments)

    @property
    def tile(self) -> int | None:
        """Rows of a tile, where they must be fewer than otherwise."""
        tile: int | None = getattr(self.groups, "tile", None)
        return tile

    def cursor(self, thread: int) -> int:
        return int(self.groups.cursor(thread))

    def prepare(self, workers: int, rows: int) -> None:
        self.groups.prepare(workers, rows, self.accumulators)

    def discard(self, worker: int) -> None:
        """Throw away what a worker has added up."""
        self.groups.discard(worker, self.accumulators)

    def grow(self, thread: int) -> None:
        self.groups.grow(thread)

    @property
    def entries(self) -> int:
        """Groups of all workers."""
        return self.groups.entries

    def finish(self, segments: np.ndarray, rows: int, pool: Pool) -> Frame:
        """Merge the workers; one row per group that occurs. On the host, also behind a kernel: groups are mostly few
        beside their rows, and on an integrated device both sides reach the same memory."""
        packed, pick = self.groups.finish(self.accumulators, segments)
        columns: dict[int, ColumnData] = {}
        for key in self.keys:
            columns[key.column.id] = key.decode(packed, key is self.keys[0])
        for call, final in zip(self.calls, self.finals):
            columns[call.output.id] = final(pick, pool)
        if self.given is not None:
            self.picked = packed
        return Frame(columns, len(packed))

    @property
    def restarts(self) -> bool:
        """Whether a kernel may find a table full, which is then made larger and begun anew."""
        return isinstance(self.groups, RowTables)

    def note_groups(self, worker: int, found: np.ndarray) -> None:
        """What a kernel entered into a table: groups, and whether the key that marks free rows was among them."""
        if isinstance(self.groups, RowTables):
            self.groups.states[worker, 0], self.groups.states[worker, 8] = found

    def release(self) -> None:
        """Let go of the run's arrays."""
        self.accumulators.release()
        self.groups.release()

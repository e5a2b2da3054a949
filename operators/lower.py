"""From bound expressions to instructions: spaces, columns, and the vectors made of them.

A *space* is a set of rows of the tile: space 0 is the tile itself, every filter or probe makes a smaller (or, for a
probe with many matches, larger) one. A register holds one entry for each row of the space it was computed in; ``carry``
brings it to the current one. Columns are not gathered before somebody computes with them, and then from where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.errors import DataError, NotSupportedError
from finequery.operators.column import ColumnData, Dictionary
from finequery.operators.expr import Call, Cast, Column, Expr, Literal, ScalarSubquery, is_constant, transform
from finequery.operators.program import Optional, Out, Program, Reg, Symbol
from finequery.types import SqlType

WIDTH = {"u8": 1, "u32": 4, "i64": 8, "f64": 8, "w": 16, "s": 16}
NONE = 0xFFFFFFFF
I64_LOW, I64_HIGH = -(2**63), 2**63 - 1


class NeedsHost(Exception):
    """Lowering met a call that only the host library can evaluate, over values that are not in a small dictionary."""

    def __init__(self, expr: Expr):
        self.expr = expr
        super().__init__(str(expr))


def host_reason(expr: Expr) -> str:
    """Why an expression of ``NeedsHost`` is not computed on the GPU."""
    if isinstance(expr, Call):
        return f"{expr.name} is a host function"
    if isinstance(expr, Cast):
        return f"{'try_cast' if expr.safe else 'cast'} of {expr.child.type} to {expr.type} is a host function"
    return "a CASE whose branches may fail on the host is a host function"


@dataclass(slots=True, eq=False)
class Value:
    """A vector: its register, which rows are valid (None: all), and bounds of its integers."""

    kind: str
    reg: Reg
    valid: Reg | None = None
    low: int = I64_LOW
    high: int = I64_HIGH
    dictionary: Dictionary | None = None
    constant: bool = False
    text: bytes | None = None  # of a constant string


@dataclass(slots=True, eq=False)
class Space:
    """Rows of the tile. ``positions``: this space's rows in its parent; ``rows``: in the tile (None: dense)."""

    parent: int
    positions: Reg | None
    rows: Reg | None


@dataclass(slots=True, eq=False)
class Rows:
    """Row numbers into a build side, one per row of a space. ``make`` computes them in the current space (a look-up
    that can be done again anywhere); otherwise ``reg`` of ``space`` is carried. ``matched`` marks rows with a partner
    (outer joins).
    """

    make: Callable[[Lower], Reg] | None = None
    reg: Reg | None = None
    space: int = 0
    matched: Reg | None = None
    cache: dict[int, Reg] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Stored:
    """A column in memory, read at the tile's rows (``rows`` None) or through a probe's row numbers."""

    data: ColumnData
    rows: Rows | None = None
    #: Where the column is when the program runs again; None: always ``data``.
    fetch: Callable[[], ColumnData] | None = None
    symbols: dict[str, Symbol] = field(default_factory=dict)

    def symbol(self, part: str) -> Symbol:
        """The symbol of ``data``, ``validity`` or ``chars``."""
        found = self.symbols.get(part)
        if found is None:
            fetch = self.fetch
            if fetch is None:
                found = Symbol(getattr(self.data, part))
            else:
                found = Symbol(lambda thread, fetch=fetch: getattr(fetch(), part))
            self.symbols[part] = found
        return found


@dataclass(slots=True, eq=False)
class Coded:
    """A build side's column that a look-up table gives directly: ``make(lower)`` gives digits (u32) of ``data``'s
    encoding in the current space."""

    data: ColumnData
    make: Callable[[Lower], Reg]
    rows: Stored | None = None  # the same column through row numbers
    cache: dict[int, Reg] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Computed:
    """A column that was computed already, in a register of an earlier space."""

    value: Value
    space: int


class Lower:
    """Builds the program of one pipeline. ``environment`` says where each column id comes from."""

    def __init__(self, parameters: Callable[[Expr], Any], tabulate: bool = True):
        self.program = Program()
        self.most_rows = 1  # bound on the rows of the current space over the whole run
        self.expected_rows = 1.0  # rows that reach the current space, by what the build sides turned out to be
        self.tabulate = tabulate  # False while a table itself is computed
        self.emit = self.program.emit
        self.environment: dict[int, Stored | Coded | Computed | Expr] = {}
        self.owners: dict[int, int] = {}  # by id of a computed column: the step that names it
        self.spaces = [Space(-1, None, None)]
        self.space = 0
        self.memo: dict[tuple[Any, ...], tuple[int, Value]] = {}
        self.carried: dict[tuple[Reg, int], Reg] = {}
        self.fold_constant = parameters
        self.active: Reg | None = None
        self.shared = False  # whether two devices run the program at once
        self.gpu = False  # whether the program is for the GPU: ways that only the CPU has are not chosen
        self.expanded = False  # whether a source row may stand several times in the current space
        self.deferred: Reg | None = None  # the mask of a filter that is left to the sink
        self.symbols: dict[int, Symbol] = {}
        self.kept: list[Any] = []

    # --- registers and spaces ------------------------------------------------------------------------------------

    def symbol(self, array: np.ndarray) -> Symbol:
        """The symbol of an array, one per array."""
        found = self.symbols.get(id(array))
        if found is None:
            found = self.symbols[id(array)] = Symbol(array)
        return found

    def carry(self, reg: Reg, origin: int) -> Reg:
        """A register of an earlier space, in the current one."""
        if origin == self.space or reg in self.program.constant_data:
            return reg
        found = self.carried.get((reg, self.space))
        if found is None:
            found = self.carried[reg, self.space] = Reg(reg.width)
            self.emit(f"gather_{reg.width}", reg, 0, self._positions(origin), Out(found))
        return found

    def _positions(self, origin: int) -> Reg:
        """The current rows' positions in an earlier space. Composed from here downwards: every instruction runs on the
        current number of rows, so nothing of a space in between can be made up for now."""
        key = ("positions", self.space, origin)
        if key in self.memo:
            return self.memo[key][1].reg
        space = self.spaces[self.space]
        index = space.positions
        while space.parent != origin:
            space = self.spaces[space.parent]
            out = Reg(4)
            assert space.positions is not None and index is not None
            self.emit("gather_4", space.positions, 0, index, Out(out))
            index = out
        assert index is not None
        self.memo[key] = (self.space, Value("u32", index))
        return index

    def rows(self) -> Reg | None:
        """The current space's rows of the tile (None: all of them)."""
        space = self.spaces[self.space]
        if space.rows is None and space.parent >= 0:
            number = space.parent
            while number > 0 and self.spaces[number].rows is None:
                number = self.spaces[number].parent
            above = self.spaces[number].rows
            if above is None:
                space.rows = self._positions(0)
            else:
                space.rows = self.carry(above, number)
        return space.rows

    def enter(self, positions: Reg | None, rows: Reg | None = None) -> None:
        """Go on in a new space, made by a selection or an expansion."""
        self.spaces.append(Space(self.space, positions, rows))
        self.space = len(self.spaces) - 1

    def select(self, mask: Reg) -> None:
        """Keep the rows whose mask is set."""
        positions = Reg(4)
        self.emit("select", mask, Out(positions), pure=False)
        self.enter(positions)

    # --- columns ---------------------------------------------------------------------------------------------------

    def resolve(self, column: Column) -> Stored | Coded | Computed | Expr:
        """Where a column comes from, through projections."""
        found = self.environment.get(column.id)
        while isinstance(found, Column):
            found = self.environment.get(found.id)
        if found is None:
            raise KeyError(f"column {column.name}#{column.id} is not produced below")
        return found

    def stored(self, expr: Expr) -> Stored | None:
        """The column in memory that an expression names, if it is no more than that."""
        if isinstance(expr, Column):
            found = self.resolve(expr)
            if isinstance(found, Stored):
                return found
            if isinstance(found, Column):
                return self.stored(found)
        return None

    def index(self, rows: Rows | None) -> Reg | None:
        """The index vector that reads a stored column in the current space (None: the dense tile)."""
        if rows is None:
            return self.rows()
        return self.row_numbers(rows)

    def row_numbers(self, rows: Rows) -> Reg:
        """Build-side row numbers in the current space."""
        found = rows.cache.get(self.space)
        if found is not None:
            return found
        for number in self._ancestors():
            if number in rows.cache:
                found = self.carry(rows.cache[number], number)
                break
        else:
            if rows.make is not None:
                found = rows.make(self)
            else:
                assert rows.reg is not None
                found = self.carry(rows.reg, rows.space)
        rows.cache[self.space] = found
        return found

    def _ancestors(self) -> list[int]:
        chain, number = [], self.spaces[self.space].parent
        while number >= 0:
            chain.append(number)
            number = self.spaces[number].parent
        return chain

    def digits_of(self, coded: Coded) -> Reg:
        found = coded.cache.get(self.space)
        if found is None:
            for number in self._ancestors():
                if number in coded.cache:
                    found = self.carry(coded.cache[number], number)
                    break
            else:
                found = coded.make(self)
            coded.cache[self.space] = found
        return found

    def matched(self, rows: Rows | None) -> Reg | None:
        """Which rows have a partner (None: all)."""
        if rows is None or rows.matched is None:
            return None
        return self.carry(rows.matched, rows.space)

    def validity(self, stored: Stored) -> Reg | None:
        """Validity of a stored column in the current space (None: no NULLs)."""
        key = ("valid", stored.data, stored.rows, self.space)
        found = self.memo.get(key)
        if found is not None:
            return found[1].reg
        ok = self.matched(stored.rows)
        if stored.data.validity is not None:
            reg, index = Reg(1), self.index(stored.rows)
            bitmap = stored.symbol("validity")
            if index is None:
                self.emit("valid", bitmap, 1, Out(reg))
            else:
                self.emit("gather_valid", bitmap, 1 if stored.rows is None else 0, index, Out(reg))
            if ok is None:
                ok = reg
            else:
                both = Reg(1)
                self.emit("and_u8", reg, 0, ok, 0, Out(both))
                ok = both
        if ok is not None:
            self.memo[key] = (self.space, Value("u8", ok))
        return ok

    def source(self, stored: Stored) -> tuple[Symbol, int]:
        """Address and stride words of a column's data: moved with the tile unless rows are absolute."""
        return stored.symbol("data"), (stored.data.width if stored.rows is None else 0)

    def load(self, stored: Stored) -> Value:
        """A stored column as a vector of the current space."""
        data = stored.data
        base, stride = self.source(stored)
        index = self.index(stored.rows)
        valid = self.validity(stored)
        kind, item = data.kind, _item(data)
        if kind == "dict":
            out = Reg(4)
            if index is None:
                self.emit(f"digits_{item}", base, stride, 0, Out(out))
            else:
                self.emit(f"gather_digits_{item}", base, stride, index, 0, Out(out))
            return Value("u32", out, valid, 0, max(len(data.dictionary or ()) - 1, 0), data.dictionary)
        if kind in ("uint", "int64"):
            if data.type.name == "BOOLEAN" and data.base == 0 and item == "u8":
                out = Reg(1)
                if index is None:
                    self.emit("copy_1", base, stride, Out(out))
                else:
                    self.emit("gather_1", base, stride, index, Out(out))
                return Value("u8", out, valid, 0, 1)
            out = Reg(8)
            if index is None:
                self.emit(f"widen_{item}", base, stride, data.base, data.scale, Out(out))
            else:
                self.emit(f"gather_widen_{item}", base, stride, index, data.base, data.scale, Out(out))
            low, high = bounds_of(data)
            if data.type.name == "BOOLEAN":
                flag = Reg(1)
                self.emit("u8_of_i64", out, 0, Out(flag))
                return Value("u8", flag, valid, 0, 1)
            return Value("i64", out, valid, low, high)
        if kind in ("int128", "interval"):
            out = Reg(16)
            if index is None:
                self.emit("copy_16", base, stride, Out(out))
            else:
                self.emit("gather_16", base, stride, index, Out(out))
            low, high = bounds_of(data) if kind == "int128" else (I64_LOW, I64_HIGH)
            return Value("w", out, valid, low, high)
        if kind == "float64":
            out = Reg(8)
            if index is None:
                self.emit("copy_8", base, stride, Out(out))
            else:
                self.emit("gather_8", base, stride, index, Out(out))
            return Value("f64", out, valid)
        if kind == "float32":
            out = Reg(8)
            if index is None:
                self.emit("load_f32", base, stride, Out(out))
            else:
                self.emit("gather_f32", base, stride, index, Out(out))
            return Value("f64", out, valid)
        if kind == "string":
            out, chars = Reg(16), stored.symbol("chars")
            if index is None:
                self.emit("views", base, stride, chars, Out(out))
            else:
                self.emit("gather_views", base, stride, chars, index, Out(out))
            return Value("s", out, valid)
        raise NotSupportedError(f"column storage {kind}")

    def load_coded(self, coded: Coded) -> Value:
        """A column that a look-up table gives, as a vector."""
        digits, data = self.digits_of(coded), coded.data
        if data.kind == "dict":
            return Value("u32", digits, None, 0, max(len(data.dictionary or ()) - 1, 0), data.dictionary)
        if data.type.name == "BOOLEAN" and data.base == 0:
            flag = Reg(1)
            self.emit("u8_of_u32", digits, 0, Out(flag))
            return Value("u8", flag, None, 0, 1)
        out = Reg(8)
        self.emit("widen_u32", digits, 0, data.base, data.scale, Out(out))
        low, high = bounds_of(data)
        return Value("i64", out, None, low, high)

    # --- constants ---------------------------------------------------------------------------------------------------

    def fold(self, expr: Expr) -> Expr:
        """The expression with every constant part replaced by its value."""

        def change(e: Expr) -> Expr | None:
            if isinstance(e, (Literal, Column)) or any(not isinstance(c, Literal) for c in e.children):
                return None
            if not is_constant(e):
                return None
            try:
                return Literal(e.type, self.fold_constant(e))
            except DataError:  # an error for the rows that reach it, if any do
                if isinstance(e, ScalarSubquery):
                    raise
                return None

        return transform(expr, change)

    def constant(self, type_: SqlType, value: Any) -> Value:
        """A constant vector."""
        constant = self.program.constant
        valid = None
        if value is None:
            valid = constant("u8", 0)
        kind = register_kind(type_)
        if kind == "s":
            text = (value or "").encode()
            raw = np.frombuffer(text + bytes(64), dtype=np.uint8).copy()
            self.kept.append(raw)
            pair = np.tile(np.array([raw.ctypes.data, len(text)], dtype=np.int64), 4096 + 64)
            reg = self.program.constant_vector("s", pair, 16)
            return Value("s", reg, valid, constant=True, text=text)
        if kind == "f64":
            return Value("f64", constant("f64", 0.0 if value is None else float(value)), valid, constant=True)
        if type_.name == "BOOLEAN":
            number = int(bool(value))
            return Value("u8", constant("u8", number), valid, 0, 1, constant=True)
        if type_.name == "INTERVAL":
            months, days, micros = value or (0, 0, 0)
            word = (months & 0xFFFFFFFF) | ((days & 0xFFFFFFFF) << 32)
            return Value("w", constant("w", word | ((micros & (2**64 - 1)) << 64)), valid, constant=True)
        number = int(value or 0)
        if I64_LOW <= number <= I64_HIGH:
            return Value("i64", constant("i64", number), valid, number, number, constant=True)
        return Value("w", constant("w", number), valid, number, number, constant=True)

    # --- validity ----------------------------------------------------------------------------------------------------

    def both_valid(self, *flags: Reg | None) -> Reg | None:
        """AND of validities."""
        result: Reg | None = None
        for flag in flags:
            if flag is None or flag is result:
                continue
            if result is None:
                result = flag
            else:
                out = Reg(1)
                self.emit("and_u8", result, 0, flag, 0, Out(out))
                result = out
        return result

    def checked(self, valid: Reg | None) -> Reg:
        """The rows for which an error counts: valid ones, in a taken branch."""
        flags = self.both_valid(valid, self.active)
        return flags if flags is not None else self.program.constant("u8", 1)

    def negate(self, reg: Reg) -> Reg:
        out = Reg(1)
        self.emit("not_u8", reg, 0, Out(out))
        return out


def register_kind(type_: SqlType) -> str:
    """The kind of register that holds a type when nothing narrower is known."""
    if type_.name == "BOOLEAN":
        return "u8"
    if type_.is_float:
        return "f64"
    if type_.name == "VARCHAR":
        return "s"
    if type_.name == "INTERVAL" or type_.name in ("HUGEINT", "UBIGINT") or (type_.is_decimal and type_.precision > 18):
        return "w"
    return "i64"


def bounds_of(data: ColumnData) -> tuple[int, int]:
    """Bounds of the physical values of an exact column."""
    low, high = data.stats.low, data.stats.high
    if low is None or high is None:
        if data.kind == "uint":
            return data.base, data.base + data.scale * (2 ** (8 * data.data.itemsize) - 1)
        if data.kind == "int64":
            return (I64_LOW, I64_HIGH) if data.scale == 1 else data.type.limits
        return data.type.limits
    if data.validity is not None and data.kind in ("uint", "int64"):
        low, high = min(int(low), data.base), max(int(high), data.base)  # NULL rows hold a stored 0
    elif data.validity is not None:
        low, high = min(int(low), 0), max(int(high), 0)
    return int(low), int(high)


def _item(data: ColumnData) -> str:
    if data.kind == "int64":
        return "i64"
    return {1: "u8", 2: "u16", 4: "u32", 8: "i64", 16: "w"}[data.data.itemsize]


def stored_item(data: ColumnData) -> str:
    """Suffix of the primitives that read a column at its stored width."""
    return _item(data)


__all__ = [
    "Coded",
    "Computed",
    "Lower",
    "NeedsHost",
    "Optional",
    "Rows",
    "Space",
    "Stored",
    "Value",
    "bounds_of",
    "host_reason",
    "register_kind",
]

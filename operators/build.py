"""Build: a join's right side made into a look-up structure, chosen from what the rows turned out to be.

Keys are brought to one 64-bit integer: the physical value itself (dates, integers, decimals, dictionary codes), or
several packed by their ranges. Structures, by key range and need (DESIGN section 4, reference cpu-execution 4.12):

======  =====================================================================================================
map     a byte per possible key (membership only)
bits    a bit per possible key (membership only)
rows    row + 1 per possible key: unique keys in a small range
rank    a bit per possible key and counts of bits before: unique keys in a wide range, numbered in key order
groups  first positions per possible key and rows in key order: repeated keys in a small range
hash    a hash table of cache lines (primitives/joins.py), region by region in parallel, behind a Bloom filter
chains  the same to group numbers, and rows in group order: repeated keys
======  =====================================================================================================

A look-up is sized by the build side; probes are clamped to it, so no key of the other side reads outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators import native
from finequery.operators.column import ColumnData, Dictionary, Frame
from finequery.operators.partition import partition
from finequery.operators.pool import Pool

MAP_BYTES = 1 << 18
#: Builds beyond this get a Bloom filter in front: it spares the branches that misses cost (reference: cpu-execution
#: 4.6).
SMALL_BUILD = 1000
#: Of the hash table: regions, keys of a line, bytes of a line (primitives/joins.py).
REGIONS, KEYS, LINE = 256, 5, 64
#: What its kernels return: a repeated key where that matters, a region without room.
REPEATED, FULL = -1, -3


@dataclass(slots=True)
class KeyPart:
    """How one key column becomes a digit: value - low, below span (with one more for NULL where NULL is a value)."""

    low: int
    span: int
    factor: int = 1
    dictionary: Dictionary | None = None
    interned: Any = None  # a digit is the number of a distinct value
    before: Any = None  # the digits before this one are replaced by the number of what they make together

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(0 if i is None else i.mask for i in (self.interned, self.before))


@dataclass(eq=False)
class Lookup:
    """A built side. ``low``/``span`` bound the (packed) keys; arrays are as the table above says."""

    kind: str
    frame: Frame
    rows: int
    parts: list[KeyPart]
    low: int = 0
    span: int = 0
    unique: bool = True
    most: int = 1  # most rows of one key
    complete: bool = False  # every key of the range is there
    has_null: bool = False
    marks: np.ndarray | None = None
    bits: np.ndarray | None = None
    row_map: np.ndarray | None = None
    prefix: np.ndarray | None = None
    starts: np.ndarray | None = None
    listed: np.ndarray | None = None
    table: np.ndarray | None = None
    lines: int = 0
    bloom: np.ndarray | None = None
    bloom_shift: int = 0
    reason: str = ""
    payloads: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def signature(self) -> tuple[Any, ...]:
        """All that a program compiled against this structure depends on, addresses apart."""
        parts = tuple((p.low, p.span, p.factor, p.dictionary, p.shape) for p in self.parts)
        return (
            *(
                self.kind,
                self.low,
                self.span,
                self.most.bit_length(),
                self.complete,
                self.has_null,
                self.rows == 0,
                parts,
            ),
            *(self.lines, self.bloom_shift, self.bloom is None, self.marks is None, self.bits is None),
            *(
                self.listed is None,
                self.prefix is None,
                tuple(sorted((c, a.itemsize) for c, a in self.payloads.items())),
            ),
        )

    @property
    def nbytes(self) -> int:
        arrays = (self.marks, self.bits, self.row_map, self.prefix, self.starts, self.listed, self.table, self.bloom)
        return sum(a.nbytes for a in arrays if a is not None) + sum(a.nbytes for a in self.payloads.values())


def padded(count: int, dtype: Any, zero: bool = True, kind: str | None = None, room: bool = False) -> np.ndarray:
    """An array on a 64-byte boundary with 64 readable bytes behind it. ``room``: little of it may be touched, so it is
    not counted before it was (``memory.used``); small arrays are never."""
    size = np.dtype(dtype).itemsize
    counted = count * size >= memory.LARGE and not room
    if memory.guards is not None:
        return memory.array(count, dtype, zero=zero, counted=counted, kind=kind)
    data = memory.array(count + 64 // size + 1, dtype, counted=counted, kind=kind)
    if zero:
        data.fill(0)
    return data[:count]


def structure(rows: float, span: float | None, unique: bool, need_rows: bool, probes: float) -> str:
    """The structure for ``rows`` keys in a range of ``span`` (None: unknown, or not to be indexed by), looked up at
    most ``probes`` times. ``need_rows``: columns or the number of partners matter, not membership alone. A table by key
    pays while it is not much larger than the rows or the look-ups."""
    if span is not None and span < 2**31:
        if not need_rows:
            if span <= MAP_BYTES:
                return "map"
            if span <= max(64 * rows, 1 << 22, 8 * probes):
                return "bits"
        elif unique and 1 << 18 < span <= max(64 * rows, 8 * probes):
            return "rank"
        elif span <= max(8 * rows, 1 << 16, min(probes, 1 << 20)):
            return "rows" if unique else "groups"
    return "hash" if unique or not need_rows else "chains"


def reason(kind: str, rows: float, span: float | None) -> str:
    """Why a structure was chosen, or is expected."""
    keys = "" if span is None else f" in a range of {span:,.0f}"
    spread = f"{rows:,.0f} keys" + ("" if span is None else f" spread over a range of {span:,.0f}")
    return {
        "map": f"{span:,.0f} possible keys: a byte each" if span is not None else "",
        "bits": f"{span:,.0f} possible keys: a bit each" if span is not None else "",
        "rank": f"unique keys{keys}: bits and counts",
        "rows": f"unique keys{keys}: row by key",
        "groups": f"repeated keys{keys}: rows by key",
        "hash": spread + (", Bloom filter" if rows > SMALL_BUILD else ""),
        "chains": f"{spread}, repeated",
    }[kind]


def expected_bytes(kind: str, rows: float, span: float | None) -> float:
    """What a structure takes."""
    keys, line = span or 0.0, 2 * rows / KEYS * LINE
    marks = 0.0 if rows >= keys else keys if keys <= MAP_BYTES else keys / 8
    return {
        "map": keys,
        "bits": keys / 8,
        "rank": keys / 8 + keys / 16,
        "rows": 4 * keys + marks,
        "groups": 4 * (keys + rows),
        "hash": line + (4 * rows if rows > SMALL_BUILD else 0.0),
        "chains": line + 8 * rows,
    }[kind]


def build_lookup(
    frame: Frame,
    keys: ColumnData,
    parts: list[KeyPart],
    rows: np.ndarray | None,
    need_rows: bool,
    pool: Pool,
    has_null: bool,
    probes: int,
    device: Any = None,
) -> Lookup:
    """Build from one column of keys: physical values ``base + scale * stored``, or packed keys (int64), with NULL keys
    skipped.

    ``rows`` maps key positions to rows of ``frame`` (None: the same). ``need_rows`` and ``probes`` as in
    ``structure``. ``device``: the GPU that fills it, if not the CPU."""
    fill: Any = OnCpu(pool)
    if device is not None:
        from finequery.operators.cuda.build import OnGpu

        fill = OnGpu(device)
    lookup = Lookup("map", frame, frame.length, parts, has_null=has_null)
    low, high = fill.bounds(keys)
    if low > high:
        lookup.low, lookup.span, lookup.marks = 0, 0, padded(1, np.uint8)
        lookup.kind, lookup.reason = ("rows" if need_rows else "map"), "no rows"
        lookup.row_map = padded(1, np.uint32)
        return lookup
    lookup.low, lookup.span = low, high - low + 1
    dense = keys.kind in ("uint", "int64", "dict") and keys.scale == 1
    span = lookup.span if dense else None
    lookup.kind = structure(keys.length, span, True, need_rows, probes)
    if lookup.kind in ("map", "bits"):
        fill.members(lookup, keys)
    elif lookup.kind == "hash" or not (fill.ranks if lookup.kind == "rank" else fill.rows)(lookup, keys, rows):
        lookup.kind = structure(keys.length, span, False, need_rows, probes)
        if lookup.kind == "groups":
            fill.groups(lookup, keys, rows)
        else:
            fill.hash(lookup, keys, rows, need_rows)
    lookup.reason = reason(lookup.kind, keys.length, lookup.span)
    return lookup


class OnCpu:
    """Fills look-ups on the CPU. ``cuda.build.OnGpu`` does the same on a GPU."""

    def __init__(self, pool: Pool):
        self.pool = pool

    def bounds(self, keys: ColumnData) -> tuple[int, int]:
        return key_bounds(keys, self.pool)

    def members(self, lookup: Lookup, keys: ColumnData) -> None:
        _members(lookup, keys)

    def ranks(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
        return _ranks(lookup, keys, rows)

    def rows(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
        return _rows(lookup, keys, rows)

    def groups(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> None:
        _groups(lookup, keys, rows)

    def hash(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None, need_rows: bool) -> None:
        _hash(lookup, keys, rows, need_rows, self.pool)


def _fill(
    lookup: Lookup,
    keys: ColumnData,
    marks: np.ndarray | None = None,
    row_map: np.ndarray | None = None,
    bits: np.ndarray | None = None,
) -> int:
    """Enter the keys into one table by key; how many fell on a place that was taken."""
    tables = [0 if a is None else a.ctypes.data for a in (marks, row_map, bits)]
    shift, valid = lookup.low - keys.base, 0 if keys.validity is None else keys.validity.ctypes.data
    words = (keys.data.ctypes.data, shift, lookup.span, *tables, valid)
    return native.run(f"fill_map_{_item(keys)}", *words, n=keys.length)


def _item(keys: ColumnData) -> str:
    return {1: "u8", 2: "u16", 4: "u32", 8: "i64"}[keys.data.itemsize]


def _digits(lookup: Lookup, keys: ColumnData) -> np.ndarray:
    """Keys less the lowest one, at most the range."""
    digits, shift = padded(keys.length, np.uint32, zero=False), lookup.low - keys.base
    words = (keys.data.ctypes.data, 0, 0, shift, lookup.span, digits.ctypes.data)
    native.run(f"clamp_{_item(keys)}", *words, k=keys.length)
    return digits


def _members(lookup: Lookup, keys: ColumnData) -> None:
    if lookup.kind == "map":
        lookup.marks = padded(lookup.span + 1, np.uint8)
    else:
        lookup.bits = padded((lookup.span >> 3) + 8, np.uint8)
    double = _fill(lookup, keys, marks=lookup.marks, bits=lookup.bits)
    lookup.complete = keys.length - double - keys.stats.nulls == lookup.span


def _ranks(lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
    """Bits, counts of the bits before each word, rows in key order; False at a repeated key."""
    words = -(-lookup.span // 64)
    lookup.bits = padded(words * 8 + 8, np.uint8)
    if _fill(lookup, keys, bits=lookup.bits):
        lookup.bits = None
        return False
    lookup.prefix = padded(words + 1, np.uint32)
    native.run("rank_prefix", lookup.bits.ctypes.data, lookup.prefix.ctypes.data, n=words + 1)
    if not (keys.stats.sorted and rows is None and keys.validity is None):
        order = padded(keys.length, np.uint32)
        valid = 0 if keys.validity is None else keys.validity.ctypes.data
        tables = (lookup.bits.ctypes.data, lookup.prefix.ctypes.data, valid)
        digits = _digits(lookup, keys)
        in_order = native.run("rank_order", digits.ctypes.data, *tables, order.ctypes.data, n=keys.length)
        if rows is not None:
            order[:] = rows[order]
        lookup.listed = None if in_order and rows is None else order
    lookup.complete = keys.length - keys.stats.nulls == lookup.span
    return True


def _rows(lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
    """Row + 1 by key, and marks or bits to select by where keys are missing; False at a repeated key."""
    span = lookup.span
    lookup.row_map = padded(span + 1, np.uint32)
    if _fill(lookup, keys, row_map=lookup.row_map):
        lookup.row_map = None
        return False
    lookup.complete = keys.length - keys.stats.nulls == span
    if not lookup.complete:
        if span <= MAP_BYTES:
            lookup.marks = padded(span + 1, np.uint8)
            np.minimum(lookup.row_map, 1, out=lookup.marks, casting="unsafe")
        else:
            lookup.bits = padded((span >> 3) + 8, np.uint8)
            _fill(lookup, keys, bits=lookup.bits)
    if rows is not None:
        hit = lookup.row_map > 0
        lookup.row_map[hit] = rows[lookup.row_map[hit] - 1] + 1
    return True


def _groups(lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> None:
    """Rows in key order, and where each key's begin."""
    digits, groups = _digits(lookup, keys), lookup.span + 1
    if keys.validity is not None:
        ok = np.unpackbits(keys.validity.view(np.uint8), bitorder="little")[: keys.length]
        digits[ok == 0] = lookup.span
    lookup.unique = False
    lookup.starts = padded(groups + 2, np.uint32)
    lookup.listed = padded(keys.length, np.uint32, zero=False)
    addresses = (digits.ctypes.data, lookup.starts.ctypes.data, lookup.listed.ctypes.data)
    native.run("count_starts", *addresses, n=keys.length, k=groups)
    lookup.most = int(np.diff(lookup.starts[: groups + 1]).max(initial=1))
    if rows is not None:
        lookup.listed[:] = rows[lookup.listed]


def key_bounds(keys: ColumnData, pool: Pool) -> tuple[int, int]:
    """Smallest and largest key, exactly; (1, 0) where there is none."""
    count = keys.length
    if count - keys.stats.nulls <= 0:
        return 1, 0
    if keys.validity is None:
        data = keys.data[:count]
        return keys.base + keys.scale * int(data.min()), keys.base + keys.scale * int(data.max())
    ok = np.unpackbits(keys.validity.view(np.uint8), bitorder="little")[:count].astype(bool)
    data = keys.data[:count][ok]
    if len(data) == 0:
        return 1, 0
    return keys.base + keys.scale * int(data.min()), keys.base + keys.scale * int(data.max())


def widen_keys(keys: ColumnData) -> tuple[np.ndarray, np.ndarray | None]:
    """Keys as int64 without NULLs, and their positions where some were dropped."""
    count = keys.length
    values = padded(count, np.int64, zero=False)
    if keys.data.dtype == np.int64 and keys.scale == 1 and keys.base == 0:
        values = keys.data[:count]
    else:
        values[:] = keys.data[:count]
        if keys.scale != 1:
            values *= keys.scale
        if keys.base:
            values += keys.base
    if keys.validity is None:
        return values, None
    ok = np.unpackbits(keys.validity.view(np.uint8), bitorder="little")[:count].astype(bool)
    where = np.flatnonzero(ok).astype(np.uint32)
    kept = padded(len(where), np.int64, zero=False)
    kept[:] = values[ok]
    return kept, where


def _hash(lookup: Lookup, keys: ColumnData, rows: np.ndarray | None, need_rows: bool, pool: Pool) -> None:
    values, where = widen_keys(keys)
    if where is not None:
        rows = where if rows is None else rows[where]
    count = len(values)
    numbers = padded(count, np.uint32, zero=False)
    numbers[:] = np.arange(count, dtype=np.uint32) if rows is None else rows
    parted, (numbers,), bounds = partition(values, [numbers], pool)
    words = [parted.ctypes.data, numbers.ctypes.data]
    repeated = _fill_lines(lookup, "build_lines", words, [int(need_rows)], bounds, pool)
    lookup.kind = "chains" if repeated else "hash"
    if repeated:
        lookup.unique = False
        lookup.starts, lookup.listed = padded(count + 2, np.uint32, zero=False), padded(count, np.uint32, zero=False)
        lookup.starts[count:] = count
        most, scratch = np.zeros(pool.threads, dtype=np.int64), padded(count, np.uint32, zero=False)
        outputs = [a.ctypes.data for a in (most, scratch, lookup.starts, lookup.listed)]
        _fill_lines(lookup, "group_lines", words, outputs, bounds, pool)
        lookup.most = int(most.max())
    elif count > SMALL_BUILD:
        size = 1 << max(8, int(count).bit_length() - 1)
        lookup.bloom = padded(size, np.uint32)
        lookup.bloom_shift = 64 - (size.bit_length() - 1)
        pool.range("build_bloom", [words[0], lookup.bloom.ctypes.data, lookup.bloom_shift], count, bounds=bounds)


def lines_for(largest: int, count: int) -> int:
    """Lines of a region to begin with, for ``count`` keys of which the largest region has so many.

    Half of a line's places are used on average. Regions have one size, so a region of many equal keys would make all
    large: a region is sized for twice the rows of the average one."""
    return -(-2 * min(largest, 2 * (count // REGIONS) + 32) // KEYS)


def _fill_lines(
    lookup: Lookup,
    kernel: str,
    words: list[int],
    more: list[int],
    bounds: np.ndarray,
    pool: Pool,
) -> bool:
    """Make the table of lines by a kernel over the partitions; whether it met a repeated key that matters. All regions
    are made anew where one is full."""
    sizes, count = np.diff(bounds), int(bounds[-1])
    lookup.lines = lines_for(int(sizes.max()), count)
    while True:
        lookup.table = padded(REGIONS * lookup.lines * (LINE // 8), np.uint64, zero=False)
        lookup.table.reshape(REGIONS, -1)[sizes == 0] = 0  # the kernels empty those that they fill
        status = pool.range(kernel, [*words, lookup.table.ctypes.data, lookup.lines, *more], count, bounds=bounds)
        if status != FULL:
            return status == REPEATED
        lookup.lines *= 2

"""Build: a join's right side made into a look-up structure, chosen from what the rows turned out to be.

Keys are brought to one 64-bit integer: the physical value itself (dates, integers, decimals, dictionary codes), or
several packed by their ranges. Structures, by key range and need (DESIGN section 4, reference cpu-execution 4.12):

======  =====================================================================================================
map     a byte per possible key (membership only)
bits    a bit per possible key (membership only)
rows    row + 1 per possible key: unique keys in a small range
rank    a bit per possible key and counts of bits before: unique keys in a wide range, numbered in key order
groups  first positions per possible key and rows in key order: repeated keys in a small range
hash    open addressing over keys, region by region in parallel, with a Bloom filter when larger than the cache
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
from finequery.operators.pool import Pool

MAP_BYTES = 1 << 18
#: Builds beyond this get a Bloom filter in front: it spares the branches that misses cost (reference: cpu-execution
#: 4.6).
SMALL_BUILD = 1000


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
    shift: int = 0
    region: int = 0
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
            *(self.shift, self.region, self.bloom_shift, self.bloom is None, self.marks is None, self.bits is None),
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


def padded(count: int, dtype: Any, zero: bool = True) -> np.ndarray:
    """An array with 64 readable bytes behind it."""
    size = np.dtype(dtype).itemsize
    if memory.guards is not None:
        return memory.array(count, dtype, zero=zero, counted=False)
    if count * size >= memory.LARGE:
        memory.require(count * size, "a table")
        data = memory.array(count + 64 // size + 1, dtype, counted=False)
        if zero:
            data.fill(0)
        return data[:count]
    return (np.zeros if zero else np.empty)(count + 64 // size + 1, dtype=dtype)[:count]


def build_lookup(
    frame: Frame,
    keys: ColumnData,
    parts: list[KeyPart],
    rows: np.ndarray | None,
    need_rows: bool,
    pool: Pool,
    has_null: bool,
    probes: int,
) -> Lookup:
    """Build from one column of keys: physical values ``base + scale * stored``, or packed keys (int64), with NULL keys
    skipped.

    ``rows`` maps key positions to rows of ``frame`` (None: the same). ``need_rows``: payload or multiplicity matters.
    ``probes``: how many rows will look up at the most; a table by key pays while it is not larger than that.
    """
    count = keys.length
    lookup = Lookup("map", frame, frame.length, parts, has_null=has_null)
    low, high = key_bounds(keys, pool)
    if low > high:
        lookup.low, lookup.span, lookup.marks = 0, 0, padded(1, np.uint8)
        lookup.kind, lookup.reason = ("rows" if need_rows else "map"), "no rows"
        lookup.row_map = padded(1, np.uint32)
        return lookup
    lookup.low, lookup.span = low, high - low + 1
    dense = keys.kind in ("uint", "int64", "dict") and keys.scale == 1
    item = {1: "u8", 2: "u16", 4: "u32", 8: "i64"}[keys.data.itemsize]
    shift = low - keys.base
    valid = 0 if keys.validity is None else keys.validity.ctypes.data
    span = lookup.span

    def fill(marks: np.ndarray | None, row_map: np.ndarray | None, bits: np.ndarray | None) -> int:
        address = [0 if a is None else a.ctypes.data for a in (marks, row_map, bits)]
        return native.run(f"fill_map_{item}", keys.data.ctypes.data, shift, span, *address, valid, n=count)

    if dense and not need_rows:
        if span <= MAP_BYTES:
            lookup.marks = padded(span + 1, np.uint8)
            double = fill(lookup.marks, None, None)
            lookup.kind, lookup.reason = "map", f"{span:,} possible keys: a byte each"
        elif span <= max(64 * count, 1 << 22, 8 * probes) and span < 2**31:
            lookup.bits = padded((span >> 3) + 8, np.uint8)
            double = fill(None, None, lookup.bits)
            lookup.kind, lookup.reason = "bits", f"{span:,} possible keys: a bit each"
        else:
            return _hash(lookup, keys, rows, pool)
        lookup.complete = count - double - keys.stats.nulls == span
        return lookup
    if dense and 1 << 18 < span <= max(64 * count, 8 * probes) and span < 2**31:
        words = -(-span // 64)
        lookup.bits = padded(words * 8 + 8, np.uint8)
        if fill(None, None, lookup.bits) == 0:
            lookup.prefix = padded(words + 1, np.uint32)
            native.run("rank_prefix", lookup.bits.ctypes.data, lookup.prefix.ctypes.data, n=words + 1)
            if not (keys.stats.sorted and rows is None and keys.validity is None):
                digits, order = padded(count, np.uint32, zero=False), padded(count, np.uint32)
                native.run(f"clamp_{item}", keys.data.ctypes.data, 0, 0, shift, span, digits.ctypes.data, k=count)
                tables = (lookup.bits.ctypes.data, lookup.prefix.ctypes.data)
                in_order = native.run("rank_order", digits.ctypes.data, *tables, valid, order.ctypes.data, n=count)
                if rows is not None:
                    order[:] = rows[order]
                lookup.listed = None if in_order and rows is None else order
            lookup.kind, lookup.reason = "rank", f"unique keys in a range of {span:,}: bits and counts"
            lookup.complete = count - keys.stats.nulls == span
            return lookup
        lookup.bits = None
    if dense and span <= max(8 * count, 1 << 16, min(probes, 1 << 20)) and span < 2**31:
        lookup.row_map = padded(span + 1, np.uint32)
        double = fill(None, lookup.row_map, None)
        if double == 0:
            lookup.complete = count - keys.stats.nulls == span
            lookup.kind, lookup.reason = "rows", f"unique keys in a range of {span:,}: row by key"
            if not lookup.complete:
                if span <= MAP_BYTES:
                    lookup.marks = padded(span + 1, np.uint8)
                    np.minimum(lookup.row_map, 1, out=lookup.marks, casting="unsafe")
                else:
                    lookup.bits = padded((span >> 3) + 8, np.uint8)
                    fill(None, None, lookup.bits)
            if rows is not None:
                present = lookup.row_map[: span + 1]
                hit = present > 0
                present[hit] = rows[present[hit] - 1] + 1
            return lookup
        lookup.row_map = None
        lookup.unique = False
        digits = padded(count, np.uint32, zero=False)
        native.run(f"clamp_{item}", keys.data.ctypes.data, 0, 0, shift, span, digits.ctypes.data, k=count)
        if valid:
            ok = np.unpackbits(keys.validity.view(np.uint8), bitorder="little")[:count]  # type: ignore[union-attr]
            digits[ok == 0] = span
        _group(lookup, digits, span + 1, rows)
        lookup.kind, lookup.reason = "groups", f"repeated keys in a range of {span:,}: rows by key"
        return lookup
    return _hash(lookup, keys, rows, pool)


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


def _group(lookup: Lookup, digits: np.ndarray, groups: int, rows: np.ndarray | None) -> None:
    """Rows in order of their group number."""
    count = len(digits)
    lookup.starts = padded(groups + 2, np.uint32)
    lookup.listed = padded(count, np.uint32, zero=False)
    lookup.most = max(count, 1)
    addresses = (digits.ctypes.data, lookup.starts.ctypes.data, lookup.listed.ctypes.data)
    native.run("count_starts", *addresses, n=count, k=groups)
    lookup.most = int(np.diff(lookup.starts[: groups + 1]).max(initial=1))
    if rows is not None:
        lookup.listed[:] = rows[lookup.listed]


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


def _hash(lookup: Lookup, keys: ColumnData, rows: np.ndarray | None, pool: Pool) -> Lookup:
    values, where = widen_keys(keys)
    if where is not None:
        rows = where if rows is None else rows[where]
    count = len(values)
    numbers = padded(count, np.uint32, zero=False)
    numbers[:] = np.arange(count, dtype=np.uint32) if rows is None else rows
    parted, payload, bounds = radix_partition(values, [numbers], pool)
    sizes = np.diff(bounds)
    slots = 1 << max(12, int(2 * count - 1).bit_length())
    lookup.kind, lookup.reason = "hash", f"{count:,} keys spread over a range of {lookup.span:,}"
    if int(sizes.max(initial=0)) > slots >> 6:  # no hash puts so many different keys into one of 256 regions
        return _chains(lookup, values, rows)
    while int(sizes.max(initial=0)) * 4 > 3 * (slots >> 8):
        slots *= 2
    lookup.table = padded(slots * 2, np.uint64)
    lookup.shift = 64 - (slots.bit_length() - 1)
    lookup.region = (slots >> 8) - 1
    duplicate = np.zeros(1, dtype=np.int64)
    words = [parted.ctypes.data, payload[0].ctypes.data, lookup.table.ctypes.data, lookup.shift, lookup.region, 0, 0]
    pool.range("build_region", [*words, duplicate.ctypes.data], count, bounds=bounds)
    if duplicate[0]:
        return _chains(lookup, values, rows)
    if count > SMALL_BUILD:
        size = 1 << max(8, int(count).bit_length() - 1)
        lookup.bloom = padded(size, np.uint32)
        lookup.bloom_shift = 64 - (size.bit_length() - 1)
        pool.range(
            "build_bloom", [parted.ctypes.data, lookup.bloom.ctypes.data, lookup.bloom_shift], count, bounds=bounds
        )
        lookup.reason += ", Bloom filter"
    return lookup


def _chains(lookup: Lookup, values: np.ndarray, rows: np.ndarray | None) -> Lookup:
    """Repeated keys: number the distinct ones, then rows by number."""
    groups, numbers, table, shift, _ = number_keys(values)
    lookup.table, lookup.shift = table, shift
    lookup.region = (1 << (64 - shift)) - 1
    lookup.unique = False
    _group(lookup, numbers, groups, rows)
    lookup.kind, lookup.reason = "chains", lookup.reason + ", repeated"
    return lookup


def number_keys(values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, int, np.ndarray]:
    """Distinct int64 keys numbered in order of appearance: count, number of each row (u32), table, its shift, the
    keys."""
    count = len(values)
    slots = 1 << max(10, int(2 * count - 1).bit_length())
    table = padded(slots * 2, np.uint64)
    listed = padded(count, np.uint64, zero=False)
    hashes = padded(4096, np.uint64)
    numbers = padded(count, np.uint32, zero=False)
    shift = 64 - (slots.bit_length() - 1)
    state = np.array(
        [0, 1 << 62, table.ctypes.data, shift, listed.ctypes.data, hashes.ctypes.data, slots - 1], dtype=np.int64
    )
    for start in range(0, count, 4096):
        step = min(4096, count - start)
        native.run(
            "find_group",
            *(values.ctypes.data + start * 8, 0, state.ctypes.data, numbers.ctypes.data + start * 4),
            k=step,
        )
    return int(state[0]), numbers, table, shift, listed


def radix_partition(
    keys: np.ndarray, payloads: list[np.ndarray], pool: Pool
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Keys (int64) and payloads reordered into 256 partitions by hash; bounds of the partitions (257 words)."""
    count = len(keys)
    morsel = max(65536, -(-count // max(pool.threads * 4, 1)))
    ranges = max(1, -(-count // morsel))
    histogram = np.zeros((ranges, 256), dtype=np.int64)
    pool.range("radix_count", [keys.ctypes.data, histogram.ctypes.data, morsel], count, morsel)
    totals = histogram.sum(axis=0)
    bounds = np.zeros(257, dtype=np.int64)
    np.cumsum(totals, out=bounds[1:])
    cursors = bounds[:256] + np.cumsum(histogram, axis=0) - histogram
    cursors = np.ascontiguousarray(cursors)
    out = padded(count, np.int64, zero=False)
    targets = [padded(len(p), p.dtype, zero=False) for p in payloads]
    words = [keys.ctypes.data, cursors.ctypes.data, morsel, out.ctypes.data, 0, 0, len(payloads)]
    for source, target in zip(payloads, targets):
        width = source.itemsize * (len(source) // count if count else 1)
        words += [source.ctypes.data, target.ctypes.data, width]
    pool.range("radix_scatter", words, count, morsel)
    return out, targets, bounds

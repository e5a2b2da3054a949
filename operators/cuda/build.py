"""Builds on the GPU: the structures of ``operators.build``, filled by kernels with atomic operations."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.build import (
    FULL,
    KEYS,
    LINE,
    MAP_BYTES,
    REGIONS,
    REPEATED,
    SMALL_BUILD,
    Lookup,
    lines_for,
    widen_keys,
)
from finequery.operators.column import ColumnData
from finequery.operators.cuda.functions import bit, rank
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.radix import radix_sort
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.sort import number
from finequery.operators.scalar import mix

ALL, SIGN = (1 << 64) - 1, 1 << 63


class OnGpu:
    """Fills look-ups on a GPU, as ``operators.build.OnCpu`` does on the CPU."""

    def __init__(self, device: Any):
        self.device = device

    def bounds(self, keys: ColumnData) -> tuple[int, int]:
        """Smallest and largest key; (1, 0) where there is none."""
        if keys.length - keys.stats.nulls <= 0:
            return 1, 0
        turned = SIGN if keys.data.dtype == np.int64 else 0
        found = self._words(2, np.uint64)
        self._launch(extremes, keys.length, np.uint64(turned), *self._keys(keys), found)
        least, most = self.device.to_host(found).tolist()
        low, high = ((x ^ turned) - turned * 2 * ((x ^ turned) >> 63) for x in (least ^ ALL, most))
        return (keys.base + keys.scale * low, keys.base + keys.scale * high) if low <= high else (1, 0)

    def members(self, lookup: Lookup, keys: ColumnData) -> None:
        """Bytes or bits of the keys that are there."""
        double = self._bits(lookup, keys, lookup.kind == "map")
        lookup.complete = keys.length - double - keys.stats.nulls == lookup.span

    def ranks(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
        """Bits, counts of the bits before each word, rows in key order; False at a repeated key."""
        if self._bits(lookup, keys, False):
            lookup.bits = None
            return False
        words = -(-lookup.span // 64) + 1
        bits = self.device.view(lookup.bits.view(np.uint64)[:words])
        counts, prefix = self.device.empty(words, np.int64), self._table(words, np.uint32)
        self._launch(set_bits, words, bits, counts)
        exclusive_scan(self.device, counts)
        self._launch(narrow, words, counts, prefix)
        lookup.prefix = self._host(prefix)
        if not (keys.stats.sorted and rows is None and keys.validity is None):
            order, moved = self.device.zeros(keys.length, np.uint32), self._words(1, np.int64)
            self._launch(order_by_rank, keys.length, *self._digits(lookup, keys), bits, prefix, order, moved)
            if rows is not None or self.device.to_host(moved)[0]:
                lookup.listed = self._host(self._named(order, rows))
        lookup.complete = keys.length - keys.stats.nulls == lookup.span
        return True

    def rows(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> bool:
        """Row + 1 by key, and marks or bits to select by where keys are missing; False at a repeated key."""
        found, double = self._table(lookup.span + 1, np.uint32), self._words(1, np.int64)
        names = self.device.empty(1, np.uint32) if rows is None else self.device.view(rows)
        self._launch(fill_rows, keys.length, int(rows is not None), *self._digits(lookup, keys), names, found, double)
        if self.device.to_host(double)[0]:
            return False
        lookup.row_map = self._host(found)
        lookup.complete = keys.length - keys.stats.nulls == lookup.span
        if not lookup.complete:
            self._bits(lookup, keys, lookup.span <= MAP_BYTES)
        return True

    def groups(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None) -> None:
        """Rows in key order, and where each key's begin."""
        groups, count = lookup.span + 1, keys.length
        words, order = self.device.empty(count, np.uint64), self.device.empty(count, np.uint32)
        counts, starts = self.device.zeros(groups + 2, np.int64), self._table(groups + 2, np.uint32)
        self._launch(count_keys, count, *self._digits(lookup, keys), words, counts)
        exclusive_scan(self.device, counts)
        self._launch(narrow, groups + 2, counts, starts)
        self._launch(number, count, order)
        _, order = radix_sort(self.device, words, order)
        lookup.unique = False
        lookup.starts, lookup.listed = self._host(starts), self._host(self._named(order, rows))
        lookup.most = int(np.diff(lookup.starts[: groups + 1]).max(initial=1))

    def hash(self, lookup: Lookup, keys: ColumnData, rows: np.ndarray | None, need_rows: bool) -> None:
        """A hash table of lines of rows, or of groups of rows where keys are repeated."""
        base, scale, data = keys.base, keys.scale, keys.data[: keys.length]
        if keys.validity is not None:
            data, where = widen_keys(keys)
            base, scale, rows = 0, 1, where if rows is None or where is None else rows[where]
        count, values = len(data), self.device.empty(len(data), np.uint64)
        self._launch(wide_keys, count, np.uint64(base & ALL), np.uint64(scale & ALL), self._view(data), values)
        names = self.device.empty(1, np.uint32) if rows is None else self.device.view(rows)
        if self._lines(lookup, values, int(rows is not None), names, need_rows):
            lookup.kind = "hash"
            if count > SMALL_BUILD:
                size = 1 << max(8, count.bit_length() - 1)
                lookup.bloom_shift = 64 - (size.bit_length() - 1)
                bloom = self._table(size, np.uint32)
                self._launch(fill_bloom, count, lookup.bloom_shift, values, bloom)
                lookup.bloom = self._host(bloom)
            return
        lookup.kind, lookup.unique = "chains", False
        order, heads = self.device.empty(count, np.uint32), self.device.empty(count, np.int64)
        self._launch(number, count, order)
        values, order = radix_sort(self.device, values, order)
        self._launch(mark_heads, count, values, heads)
        groups = int(self.device.to_host(exclusive_scan(self.device, heads))[0])
        distinct, starts = self.device.empty(groups, np.uint64), self._table(count + 2, np.uint32)
        self._launch(fill_tail, count + 2, groups, count, starts)
        self._launch(list_heads, count, values, heads, distinct, starts)
        self._lines(lookup, distinct, 0, self.device.empty(1, np.uint32), True)
        lookup.starts, lookup.listed = self._host(starts), self._host(self._named(order, rows))
        lookup.most = int(np.diff(lookup.starts[: groups + 1]).max(initial=1))

    def _lines(self, lookup: Lookup, values: Any, named: int, names: Any, distinct: bool) -> bool:
        """Fill the table of lines; False at a repeated key where keys must be distinct."""
        count = values.size
        sizes = self._words(REGIONS, np.int64)
        self._launch(count_regions, count, values, sizes)
        largest = int(self.device.to_host(sizes).max())
        lookup.lines = lines_for(largest, count)
        while True:
            table = self._table(REGIONS * lookup.lines * (LINE // 8), np.uint64)
            status = self._words(1, np.int64)
            taken, room = self.device.zeros(REGIONS, np.int64), lookup.lines * KEYS * 3 // 4
            options = (named, int(distinct), room if largest > room else 0, np.uint64(lookup.lines))
            self._launch(insert_keys, count, *options, values, names, table, table.view(np.uint32), taken, status)
            found = int(self.device.to_host(status)[0])
            if found != FULL:
                lookup.table = self._host(table)
                return found != REPEATED
            lookup.lines *= 2

    def _bits(self, lookup: Lookup, keys: ColumnData, bytes_: bool) -> int:
        """Make and fill the look-up's marks or bits; how many keys fell on a place that was taken."""
        words = self._table((lookup.span >> 2) + 1 if bytes_ else ((lookup.span >> 6) + 2) * 2, np.uint32)
        double = self._words(1, np.int64)
        self._launch(fill_bits, keys.length, 3 if bytes_ else 0, *self._digits(lookup, keys), words, double)
        if bytes_:
            lookup.marks = self._host(words).view(np.uint8)[: lookup.span + 1]
        else:
            lookup.bits = self._host(words).view(np.uint8)
        return int(self.device.to_host(double)[0])

    def _named(self, order: Any, rows: np.ndarray | None) -> Any:
        """The rows that stand for positions, as a part of the look-up."""
        out = self._table(order.size, np.uint32)
        names = order if rows is None else self.device.view(rows)
        self._launch(rename, order.size, int(rows is not None), names, order, out)
        return out

    def _digits(self, lookup: Lookup, keys: ColumnData) -> tuple[Any, ...]:
        """Arguments for keys less the lowest one: what they are moved by, their range, and the keys."""
        return np.uint64((lookup.low - keys.base) & ALL), np.uint64(lookup.span), *self._keys(keys)

    def _keys(self, keys: ColumnData) -> tuple[Any, ...]:
        """Arguments for stored keys: whether there are NULLs, keys, bitmap of those that are there."""
        valid, data = keys.validity, self._view(keys.data[: keys.length])
        if valid is None:
            return 0, data, self.device.empty(1, np.uint8)
        return 1, data, self.device.view(valid.view(np.uint8))

    def _view(self, data: np.ndarray) -> Any:
        return self.device.view(data.view(np.uint64) if data.dtype == np.int64 else data)

    def _table(self, count: int, dtype: Any) -> Any:
        """Zeros for a part of the look-up, which the CPU reads as well."""
        return self.device.zeros(count, dtype, "shared table")

    def _words(self, count: int, dtype: Any) -> Any:
        """Zeros for what the CPU asks for at once."""
        return self.device.zeros(count, dtype, "result")

    def _host(self, argument: Any) -> np.ndarray:
        return self.device.to_host(argument, keep=True)

    def _launch(self, kernel: Any, rows: int, *arguments: Any) -> None:
        launch(kernel, self.device, rows, *arguments)


def extremes(n, turned, masked, keys, valid, found):
    """Least (its complement) and greatest word of the keys."""
    low, high = ~np.uint64(0), np.uint64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if masked == 0 or bit(valid, i) != 0:
            word = np.uint64(keys[i]) ^ turned
            low, high = min(low, word), max(high, word)
    cuda.atomic.max(found, 0, ~low)
    cuda.atomic.max(found, 1, high)


def fill_bits(n, scale, shift, span, masked, keys, valid, words, double):
    """Set the bit of each key, or the first bit of its byte; count those that were set."""
    again = np.int64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        v = np.uint64(keys[i]) - shift
        if v < span and (masked == 0 or bit(valid, i) != 0):
            place = np.int64(v) << scale
            flag = np.uint32(np.uint32(1) << np.uint32(place & 31))
            if cuda.atomic.or_(words, place >> 5, flag) & flag != 0:
                again += 1
    if again != 0:
        cuda.atomic.add(double, 0, again)


def fill_rows(n, named, shift, span, masked, keys, valid, names, rows, double):
    """Row + 1 by key."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        v = np.uint64(keys[i]) - shift
        if v < span and (masked == 0 or bit(valid, i) != 0):
            row = np.uint32(i)
            if named != 0:
                row = names[i]
            if cuda.atomic.cas(rows, np.int64(v), np.uint32(0), np.uint32(row + np.uint32(1))) != 0:
                double[0] = 1


def set_bits(n, words, counts):
    """Set bits of each word."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        counts[i] = np.int64(cuda.popc(words[i]))


def narrow(n, values, out):
    """Values as 32 bits."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = np.uint32(values[i])


def order_by_rank(n, shift, span, masked, keys, valid, bits, prefix, order, moved):
    """Rows by the rank of their keys, and whether that is another order than they have."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        v = np.uint64(keys[i]) - shift
        if v < span and (masked == 0 or bit(valid, i) != 0):
            place = np.int64(rank(bits, prefix, v))
            order[place] = np.uint32(i)
            if place != i:
                moved[0] = 1
        else:
            moved[0] = 1


def rename(n, named, names, rows, out):
    """Rows by their names, if they have such."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = rows[i]
        if named != 0:
            row = names[row]
        out[i] = row


def count_keys(n, shift, span, masked, keys, valid, words, counts):
    """Keys as words, NULL above all, and rows of each."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        v = np.uint64(keys[i]) - shift
        if v > span or (masked != 0 and bit(valid, i) == 0):
            v = span
        words[i] = v
        cuda.atomic.add(counts, np.int64(v), np.int64(1))


def wide_keys(n, base, scale, keys, out):
    """The values of stored keys, as words."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = np.uint64(keys[i]) * scale + base


def count_regions(n, keys, sizes):
    """Keys by the region of their hash."""
    found = cuda.shared.array(256, np.int32)
    for region in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        found[region] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        cuda.atomic.add(found, np.int64(mix(keys[i]) >> np.uint64(56)), np.int32(1))
    cuda.syncthreads()
    for region in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        cuda.atomic.add(sizes, region, np.int64(found[region]))


def insert_keys(n, named, distinct, room, lines, keys, names, table, halves, taken, status):
    """Put keys with their row + 1 into a table of lines, seen as words and as halves. Status: -1 at a repeated key if
    keys must be distinct, -3 where a region gets more than ``room`` keys (0: that can't be), so that a line always has
    room and every search ends. Both may be found by different threads: whichever is written last is true."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if status[0] != 0:
            break
        value = np.uint32(i)
        if named != 0:
            value = names[i]
        found = insert_key(table, halves, lines, keys[i], np.uint32(value + np.uint32(1)))
        if found == np.uint32(0xFFFFFFFF):
            status[0] = -3
        elif found != np.uint32(0):
            if distinct != 0:
                status[0] = -1
        elif room != 0 and cuda.atomic.add(taken, np.int64(mix(keys[i]) >> np.uint64(56)), np.int64(1)) >= room:
            status[0] = -3


def insert_key(table, halves, lines, key, value):
    """primitives.joins.insert by many threads. A place is claimed with a value that is none, until its key is written;
    who finds that waits, as the key may be the same. The value found, 0 if the key was new, that value if full.

    The key is written, then fenced, then published by the exchange of the value; who reads a value fences before it
    reads the key. Values are read by compare and swap alone, never from a cache. Places are not freed, so all threads
    with a key claim the same first free place of its way, and no key comes twice. A waiter may be of the same warp as
    the claimant, which the schedulers of compute capability 7.0 on let proceed."""
    locked, none = np.uint32(0xFFFFFFFF), np.uint32(0)
    h = mix(key)
    region = (h >> np.uint64(56)) * lines
    line = ((h >> np.uint64(24)) & np.uint64(0xFFFFFFFF)) * lines >> np.uint64(32)
    for _ in range(np.int64(lines)):
        at = np.int64(region + line) * 8
        for s in range(5):
            place = at * 2 + 10 + s
            found = cuda.atomic.cas(halves, place, none, locked)
            if found == none:
                table[at + s] = key
                cuda.threadfence()
                cuda.atomic.exch(halves, place, value)
                return none
            while found == locked:
                found = cuda.atomic.cas(halves, place, none, none)
            cuda.threadfence()
            if table[at + s] == key:
                return found
        halves[at * 2 + 15] = np.uint32(1)
        line += np.uint64(1)
        if line == lines:
            line = np.uint64(0)
    return locked


def fill_bloom(n, shift, keys, words):
    """Set two bits of each key in the filter (primitives.joins.two_bits)."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        h = mix(keys[i])
        one = np.uint32(1)
        flags = (one << np.uint32(h & np.uint64(31))) | (one << np.uint32((h >> np.uint64(5)) & np.uint64(31)))
        cuda.atomic.or_(words, np.int64(h >> np.uint64(shift)), np.uint32(flags))


def mark_heads(n, words, heads):
    """1 where a sorted word differs from the one before."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        heads[i] = np.int64(i == 0 or words[i] != words[max(i - 1, 0)])


def list_heads(n, words, places, distinct, starts):
    """The words that differ from those before them, and where they stand."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if i == 0 or words[i] != words[max(i - 1, 0)]:
            distinct[places[i]] = words[i]
            starts[places[i]] = np.uint32(i)


def fill_tail(n, first, value, out):
    """The same value from a place on."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if i >= first:
            out[i] = np.uint32(value)

"""Sorting: the order of rows by keys, stable, in parallel.

The first chunk of all rows (sort_keys) is made twice: once to count how many rows fall into each bucket of its top
bits, once to put the words there, so that the words are written only once. Each bucket then fits a core's cache and is
radix-sorted there. Rows whose chunks are equal lie together and are marked; the next chunk is made for them alone, and
so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finequery.errors import NotSupportedError
from finequery.jetson import memory
from finequery.operators.column import ColumnData
from finequery.operators.pool import Pool
from finequery.operators.sort_keys import (
    TILE_WORDS,
    Field,
    Key,
    Program,
    chunk_program,
    cut,
    fields_of,
    row_bits_of,
    words_program,
)

#: Rows of a bucket or of a run of ties that one thread sorts alone (its scratch stays near the cache).
ALONE = 1 << 17
#: Bytes of counters for the radix sort of one thread, and words of its list of long runs.
_COUNTS, _LIST = 131072, 4096


def sort_rows(
    keys: Sequence[tuple[ColumnData, bool, bool]],
    length: int,
    pool: Pool,
    limit: int | None = None,
    device: Any = None,
) -> np.ndarray:
    """Row numbers (uint32) in the order of ``keys``, each (column, descending, nulls first): all, or the first
    ``limit``. ``device``: the GPU that sorts, if not the CPU.

    Stable. NaN is above all numbers, -0.0 equals 0.0, strings are in byte order.
    """
    if length > 1 << 32:
        raise NotSupportedError(f"sorting {length} rows: at most {1 << 32} are supported")
    terms = [Key(*key) for key in keys]
    wanted = length if limit is None else max(0, min(limit, length))
    known = known_order(terms, length, wanted)
    if known is not None or wanted == 0:
        return np.empty(0, np.uint32) if known is None else known
    if device is not None:
        from finequery.operators.cuda.sort import sorted_rows

        return sorted_rows(terms, length, wanted, pool, device)
    if wanted < length:
        from finequery.operators.topk import top_rows

        found = top_rows(terms, length, wanted, pool)
        if found is not None:
            return found
    return Sort(length, pool).by_fields(all_fields(terms, length, pool))[:wanted]


def known_order(keys: Sequence[Key], length: int, wanted: int) -> np.ndarray | None:
    """The first ``wanted`` rows of the order where the statistics tell it."""
    if keys and keys[0].column.stats.sorted and (len(keys) == 1 or keys[0].column.stats.unique):
        if not keys[0].descending:
            return np.arange(wanted, dtype=np.uint32)
        if keys[0].column.stats.unique:
            return np.arange(length - wanted, length, dtype=np.uint32)[::-1].copy()
    return None


def all_fields(keys: Sequence[Key], length: int, pool: Pool) -> list[Field]:
    """The fields of all keys, strings as ranks."""
    result: list[Field] = []
    for key in keys:
        text = rank_strings(key.column, pool) if key.column.kind == "string" else None
        result += fields_of(key, length, pool, text)
    return result


def rank_strings(column: ColumnData, pool: Pool) -> Field:
    """The dense rank of each row of a column of kind string, from 0."""
    return Sort(column.length, pool).rank(column)


def dense_ranks(order: np.ndarray, ties: np.ndarray, pool: Pool) -> Field:
    """From an order and a byte per position, 1 where the row equals the one before: the dense rank of each row, from
    0."""
    rows = len(order)
    morsel = max(65536, -(-rows // (4 * pool.threads)))
    before = np.zeros(-(-rows // morsel) + 1, np.int64)
    if rows:
        starts = np.arange(0, rows, morsel)
        np.cumsum(np.diff(starts, append=rows) - np.add.reduceat(ties, starts, dtype=np.int64), out=before[1:])
    ranks = memory.array(rows, np.uint32)
    words = (order.ctypes.data, ties.ctypes.data, morsel, before.ctypes.data, ranks.ctypes.data)
    pool.range("sort_ranks", words, rows, morsel)
    return Field("u32", ranks, max(int(before[-1]) - 1, 0).bit_length())


def mark_changes(fields: Sequence[Field], order: np.ndarray, flags: np.ndarray, value: int, pool: Pool) -> None:
    """Or ``value`` into the byte of each position where a field differs from the position before, and into the
    first."""
    if not len(order):
        return
    flags[0] |= value
    programs = [chunk_program(chunk, 0, order) for chunk in cut(fields, 64)]
    if programs:
        tiles = np.empty((pool.threads, TILE_WORDS), np.uint64)
        words = (flags.ctypes.data, value, tiles.ctypes.data, len(programs), *(p.address for p in programs))
        pool.range("sort_boundaries", words, len(order))


class Sort:
    """One sort: the order so far, and for each position whether its row ties with the row before."""

    def __init__(self, length: int, pool: Pool):
        self.length, self.pool = length, pool
        self.row_bits = row_bits_of(length)
        self.order = memory.array(length, np.uint32)
        self.ties: np.ndarray | None = None
        self.tiles = np.empty((pool.threads, TILE_WORDS), np.uint64)
        self.counts = np.empty((pool.threads, _COUNTS), np.uint8)
        self.alone = max(ALONE, length >> 10)
        self.buffers: list[np.ndarray] = []

    def by_fields(self, fields: Sequence[Field]) -> np.ndarray:
        """The order of all rows by their fields."""
        chunks = cut(fields, 64 - self.row_bits)
        if not chunks or self.length < 2:
            self.order[:] = np.arange(self.length, dtype=np.uint32)
            return self.order
        if len(chunks) > 1:
            self.ties = np.zeros(self.length, np.uint8)
        self._span(chunk_program(chunks[0], self.row_bits), 0, self.length, _bits(chunks[0]), 0, 0)
        for chunk in chunks[1:]:
            assert self.ties is not None
            if not self.ties.any():
                break
            before, self.ties = self.ties, np.zeros(self.length, np.uint8)
            program, bits = chunk_program(chunk, self.row_bits, self.order), _bits(chunk)
            head = (program.address, self.order.ctypes.data, before.ctypes.data, self.ties.ctypes.data, self.row_bits)
            for start, end in self._ties("sort_ties", (*head, self.row_bits + bits), 0, self.length, 2, ()):
                self._span(program, start, end - start, bits, start, 0)
        return self.order

    def rank(self, column: ColumnData) -> Field:
        """Dense ranks of strings by row."""
        assert column.chars is not None
        rows, order = self.length, self.order
        ties = self.ties = np.zeros(rows, np.uint8)
        final = np.zeros(rows, np.uint8)
        offsets, chars = column.data.ctypes.data, column.chars.ctypes.data
        width = min(7, (60 - self.row_bits) // 8)
        bits = 8 * width + 4
        work = [(0, rows, 0, False)]
        while work:
            start, end, depth, listed = work.pop()
            shared, same = common_prefix(column, self.pool, depth, order if listed else None, start, end)
            if same:
                if not listed:
                    order[start:end] = np.arange(start, end, dtype=np.uint32)
                final[start + 1 : end] = 1
                continue
            depth += shared
            program = text_program(column, depth, width, self.row_bits, order if listed else None)
            self._span(program, start, end - start, bits, start, 0)
            head = (offsets, order.ctypes.data, ties.ctypes.data, final.ctypes.data, self.row_bits, chars)
            for run in self._ties("sort_text_ties", head, start, end, 4, (depth + width, width)):
                work.append((*run, depth + width, True))
        return dense_ranks(order, final, self.pool)

    def _span(self, program: Program, first: int, count: int, bits: int, at: int, buffer: int) -> None:
        """Sort ``count`` words that the program makes from ``first`` on by the ``bits`` bits above the row number;
        write rows and ties from position ``at``. ``buffer``: which of two buffers to fill."""
        threads = self.pool.threads
        top = min(bits, max(int(count > self.alone), min(11, (count >> 12).bit_length())))
        shift, buckets = self.row_bits + bits - top, 1 << top
        morsel = max(65536, -(-count // (4 * threads)))
        cursors = np.zeros((-(-count // morsel), buckets), np.int64)
        while len(self.buffers) <= buffer:
            self.buffers.append(memory.array(self.length, np.uint64))
        words = self.buffers[buffer][at : at + count]
        head = (program.address, self.tiles.ctypes.data, cursors.ctypes.data, morsel, shift, buckets, first)
        starts = np.zeros(buckets + 1, np.int64)
        if buckets > 1:
            self.pool.range("sort_histogram", head, count, morsel)
            np.cumsum(cursors.sum(axis=0), out=starts[1:])
            within = np.cumsum(cursors, axis=0) - cursors
            np.add(within, starts[:-1], out=cursors)
            del within
        else:
            starts[1] = count
            cursors[:, 0] = np.arange(len(cursors)) * morsel
        self.pool.range("sort_scatter", (*head, words.ctypes.data), count, morsel)
        sizes = np.diff(starts)
        alone = self.alone if bits > top else count
        fitting = sizes[sizes <= alone]
        most = int(fitting.max()) if len(fitting) else 0
        scratch = np.empty((threads, most if bits > top else 1), np.uint64)
        ties = 0 if self.ties is None else self.ties.ctypes.data + at
        tail = (scratch.ctypes.data, most, self.counts.ctypes.data, self.order.ctypes.data + 4 * at, ties)
        arguments = (words.ctypes.data, starts.ctypes.data, self.row_bits, shift, *tail)
        self.pool.range("sort_buckets", arguments, buckets, max(1, buckets // (16 * threads)))
        if bits > top:
            for bucket in np.flatnonzero(sizes > alone).tolist():
                start, size = int(starts[bucket]), int(sizes[bucket])
                self._span(words_program(words), start, size, bits - top, at + start, 1 - buffer)

    def _ties(
        self, kernel: str, head: tuple[int, ...], start: int, end: int, scratch: int, tail: tuple[int, ...]
    ) -> list[tuple[int, int]]:
        """Sort the runs of ties between two positions; the runs that are too long for one thread."""
        threads = self.pool.threads
        space = np.empty((threads, scratch * self.alone), np.uint64)
        listed = np.zeros((threads, _LIST), np.int64)
        middle = (space.ctypes.data, self.alone, self.counts.ctypes.data, start, end, listed.ctypes.data)
        self.pool.range(kernel, (*head, *middle, *tail), end - start, 16384)
        return [(int(own[1 + 2 * i]), int(own[2 + 2 * i])) for own in listed for i in range(int(own[0]))]


def text_program(column: ColumnData, depth: int, width: int, row_bits: int, rows: np.ndarray | None) -> Program:
    """Words of ``width`` bytes of strings from ``depth`` on."""
    assert column.chars is not None
    program = Program(row_bits, rows)
    program.step("sort_key_text", column.data, column.chars.ctypes.data, depth, width)
    return program.finish()


def common_prefix(
    column: ColumnData, pool: Pool, depth: int, rows: np.ndarray | None, start: int, end: int
) -> tuple[int, bool]:
    """How many bytes from ``depth`` all strings share, and whether they are equal: of rows ``start`` to ``end``, or of
    the rows listed at these positions."""
    assert column.chars is not None
    found = np.zeros((pool.threads, 8), np.int64)
    found[:, :2] = 1 << 62
    order = 0 if rows is None else rows.ctypes.data
    words = (column.data.ctypes.data, column.chars.ctypes.data, order, start, depth, found.ctypes.data)
    pool.range("sort_text_prefix", words, end - start)
    shared, low, high = int(found[:, 0].min()), int(found[:, 1].min()), int(found[:, 2].max())
    return shared, low == high and depth + shared >= low


def _bits(chunk: Sequence[object]) -> int:
    return sum(piece.bits for piece in chunk)  # type: ignore[attr-defined]

"""Sort keys that take more than a word, brought to words on the GPU: strings as their dense ranks, intervals as 128-bit
microseconds.

Strings are sorted by their first bytes; only rows whose strings tie so far and go on are sorted by the next bytes, each
among its ties (multi-key radix sort: Bentley and Sedgewick, "Fast algorithms for sorting and searching strings", 1997,
with whole words for characters).
"""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from finequery.operators.column import ColumnData, Stats
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.radix import radix_sort
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.scalar import add_w, mul_w
from finequery.operators.sort_keys import Field

#: Bytes of a string in a word; the eighth says how many there are, or that there are more.
WIDTH = 7


def rank_text(column: ColumnData, device: Any) -> Field:
    """The dense rank of each row of a column of kind string, from 0, by byte order."""
    rows, depth = column.length, 0
    text = device.view(column.data), device.view(column.chars)
    order, words = device.empty(rows, np.uint32), device.empty(rows, np.uint64)
    launch(number_words, device, rows, order, words)
    launch(text_words, device, rows, depth, *text, order, words)
    words, order = radix_sort(device, words, order)
    heads, more, places = device.zeros(rows, np.int64), device.empty(rows, np.uint8), device.empty(rows, np.int64)
    launch(mark_words, device, rows, words, heads, more)
    while True:
        launch(mark_open, device, rows, heads, more, places)
        count = int(device.to_host(exclusive_scan(device, places))[0])
        if count == 0:
            break
        depth += WIDTH
        _refine(device, text, depth, order, heads, more, places, count)
    launch(copy_heads, device, rows, heads, places)
    distinct = int(device.to_host(exclusive_scan(device, places))[0])
    ranks = device.empty(rows, np.uint32, "result")
    launch(write_ranks, device, rows, order, heads, places, ranks)
    return Field("u32", device.to_host(ranks, keep=True), max(distinct - 1, 0).bit_length())


def _refine(
    device: Any, text: tuple[Any, Any], depth: int, order: Any, heads: Any, more: Any, places: Any, count: int
) -> None:
    """Sort the rows that are still open, each run of ties by the next bytes."""
    at, rows = device.empty(count, np.int64), device.empty(count, np.uint32)
    runs, words = device.empty(count, np.uint64), device.empty(count, np.uint64)
    launch(list_open, device, order.size, order, heads, more, places, at, rows)
    launch(number_open, device, count, at, heads, runs)
    exclusive_scan(device, runs.view(np.int64))
    within = device.empty(count, np.uint32)
    launch(number_words, device, count, within, words)
    launch(text_words, device, count, depth, *text, rows, words)
    _, within = radix_sort(device, words, within)
    sorted_runs, sorted_rows = device.empty(count, np.uint64), device.empty(count, np.uint32)
    launch(pick, device, count, within, runs, sorted_runs)
    _, within = radix_sort(device, sorted_runs, within)
    launch(pick, device, count, within, rows, sorted_rows)
    words = device.empty(count, np.uint64)
    launch(text_words, device, count, depth, *text, sorted_rows, words)
    launch(put_open, device, count, at, sorted_rows, words, order, heads, more)


def microseconds(column: ColumnData, device: Any) -> ColumnData:
    """Intervals as 128-bit numbers in their order, a month being 30 days."""
    out = device.empty(2 * column.length, np.int64, "result")
    launch(interval_words, device, column.length, device.view(column.data), out)
    return replace(column, kind="int128", data=device.to_host(out, keep=True), stats=Stats(nulls=column.stats.nulls))


def number_words(n, rows, words):
    """0, 1, 2, …; and words of nothing."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        rows[i] = np.uint32(i)
        words[i] = np.uint64(0)


def text_words(n, depth, offsets, chars, rows, words):
    """Seven bytes of the rows' strings from ``depth`` on, and how many there are: 8 where there are more."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        row = np.int64(rows[i])
        start = offsets[row] + depth
        left = max(offsets[row + 1] - start, np.int64(0))
        word = np.uint64(0)
        for s in range(7):
            byte = np.uint64(0)
            if s < left:
                byte = np.uint64(chars[start + s])
            word = (word << np.uint64(8)) | byte
        words[i] = (word << np.uint64(8)) | np.uint64(min(left, np.int64(8)))


def mark_words(n, words, heads, more):
    """1 where a word differs from the one before; whether the string goes on."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if i > 0 and words[i] != words[i - 1]:
            heads[i] = 1
        more[i] = np.uint8(words[i] & np.uint64(15) == np.uint64(8))


def is_open(heads, more, i, n):
    """Whether a position ties with a neighbour so far, and its string goes on."""
    tied = (i > 0 and heads[i] == 0) or (i + 1 < n and heads[i + 1] == 0)
    return tied and more[i] != 0


def mark_open(n, heads, more, places):
    """1 at open positions, else 0."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        places[i] = np.int64(is_open(heads, more, i, n))


def list_open(n, order, heads, more, places, at, rows):
    """The open positions in order, and their rows."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if is_open(heads, more, i, n):
            at[places[i]] = i
            rows[places[i]] = order[i]


def number_open(n, at, heads, runs):
    """1 where the next open position starts another run of ties: summed, the runs' numbers."""
    for j in range(cuda.grid(1), n, cuda.gridsize(1)):
        last = np.uint64(0)
        if j + 1 < n and (at[j + 1] != at[j] + 1 or heads[at[j + 1]] != 0):
            last = np.uint64(1)
        runs[j] = last


def pick(n, places, values, out):
    """Values at places."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = values[places[i]]


def put_open(n, at, rows, words, order, heads, more):
    """Sorted rows back to the open positions, and where their words differ."""
    for j in range(cuda.grid(1), n, cuda.gridsize(1)):
        order[at[j]] = rows[j]
        if j > 0 and words[j] != words[j - 1] and at[j] == at[j - 1] + 1:
            heads[at[j]] = 1
        more[at[j]] = np.uint8(words[j] & np.uint64(15) == np.uint64(8))


def copy_heads(n, heads, out):
    """A copy."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = heads[i]


def write_ranks(n, order, heads, before, ranks):
    """Distinct strings before each row's."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        ranks[order[i]] = np.uint32(before[i] + heads[i])


def interval_words(n, values, out):
    """primitives.sort_keys.sort_interval"""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        parts, micros = values[2 * i], values[2 * i + 1]
        days = np.int64(np.int32(parts & np.int64(0xFFFFFFFF))) * np.int64(30) + (parts >> np.int64(32))
        low, high, _ = mul_w(days, days >> np.int64(63), np.int64(86400000000), np.int64(0))
        low, high, _ = add_w(low, high, micros, micros >> np.int64(63))
        out[2 * i] = low
        out[2 * i + 1] = high

"""Numbers of groups on the GPU, as ``operators.numbered_groups`` gives them. Keys become words, texts by their ranks;
equal words are brought together by sorting, and groups are numbered by their first rows."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from typing import Any

import numpy as np

from finequery.operators.column import ColumnData
from finequery.operators.cuda.build import list_heads, mark_heads
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.radix import radix_sort
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.cuda.sort import double_word, float_word, number
from finequery.operators.cuda.take import gather_items
from finequery.operators.cuda.text_sort import rank_text


def number_on_gpu(columns: list[ColumnData], count: int, device: Any) -> tuple[np.ndarray, int, np.ndarray]:
    """Numbers of the rows' groups in order of appearance (u32), how many, first row of each (u32). NULL is a value."""
    words = None
    parts = [(column, part) for column in columns for part in range(_words(column))]
    for column, part in parts:
        digits = _digits(column, part, count, device)
        if words is not None:  # both fit 32 bits: there are fewer groups than rows
            launch(append_number, device, count, _numbered(words, device)[0], digits)
        words = digits
    numbers, groups, firsts = _numbered(words, device)
    return device.to_host(numbers, keep=True), groups, device.to_host(firsts, keep=True)


def _digits(column: ColumnData, part: int, count: int, device: Any) -> Any:
    """A column (of one of 128 bits the lower or the upper word) as words below 2**32, NULL as one of them."""
    step, masked, ranked = _words(column), column.validity is not None, column.kind == "string"
    data = (rank_text(column, device).source if ranked else column.data)[: step * count]
    valid = device.view(column.validity.view(np.uint8)) if masked else device.empty(1, np.uint8)
    floats = 8 * data.itemsize if column.kind in ("float32", "float64") else 0
    source = device.view(data.view(f"u{data.itemsize}"))
    words = device.empty(count, np.uint64)
    narrow = ranked or (column.kind in ("uint", "dict") and data.itemsize < 4)
    if column.kind == "interval":
        launch(interval_words, device, count, part, int(masked), source, valid, words)
    else:
        options = (step, part, floats, int(masked and narrow), int(masked))
        launch(key_words, device, count, *options, source, valid, words)
    if not narrow:
        launch(digits_of, device, count, int(masked), _numbered(words, device)[0], valid, words)
    return words


def _words(column: ColumnData) -> int:
    """Words of a value."""
    return 2 if column.kind in ("int128", "interval") else 1


def _numbered(words: Any, device: Any) -> tuple[Any, int, Any]:
    """Numbers of equal words in order of appearance, how many, and the first row of each."""
    count = words.size
    copy, order, heads = (device.empty(count, kind) for kind in (np.uint64, np.uint32, np.int64))
    launch(copy_words, device, count, words, copy)  # sorting writes them
    launch(number, device, count, order)
    found, order = radix_sort(device, copy, order)
    launch(mark_heads, device, count, found, heads)
    groups = int(device.to_host(exclusive_scan(device, heads))[0])
    distinct, starts, firsts = (device.empty(groups, kind) for kind in (np.uint64, np.uint32, np.uint32))
    launch(list_heads, device, count, found, heads, distinct, starts)
    launch(gather_items, device, groups, 1, 0, order, starts, firsts)
    launch(copy_words, device, groups, firsts, distinct)
    launch(number, device, groups, starts)
    _, by_first = radix_sort(device, distinct, starts)  # groups in order of appearance
    ranks, ordered = device.empty(groups, np.uint32), device.empty(groups, np.uint32, "result")
    launch(rank_groups, device, groups, by_first, firsts, ranks, ordered)
    numbers = device.empty(count, np.uint32, "result")
    launch(spread, device, count, found, heads, order, ranks, numbers)
    return numbers, groups, ordered


def interval_words(n, part, masked, data, valid, out):
    """Days of intervals (part 0), or the microseconds behind them, NULL as 0. A month is 30 days, a day 24 hours: equal
    spans of time are one value."""
    day = np.int64(86400000000)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        span, micros = np.int64(data[2 * i]), np.int64(data[2 * i + 1])
        days = micros // day
        word = np.uint64(micros - days * day)
        if part == 0:
            word = np.uint64(((span << np.int64(32)) >> np.int64(32)) * 30 + (span >> np.int64(32)) + days)
        if masked != 0 and bit(valid, i) == 0:
            word = np.uint64(0)
        out[i] = word


def key_words(n, step, offset, floats, above, masked, data, valid, out):
    """Stored values, or words of them, as words: moved up by ``above``, NULL as 0, doubles by value."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        word = np.uint64(data[step * i + offset])
        if floats == 32:
            word = float_word(word)
        elif floats == 64:
            word = double_word(word)
        word += np.uint64(above)
        if masked != 0 and bit(valid, i) == 0:
            word = np.uint64(0)
        out[i] = word


def digits_of(n, masked, numbers, valid, out):
    """Numbers as digits, with 0 for NULL if there is any."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        digit = np.uint64(numbers[i]) + np.uint64(masked)
        if masked != 0 and bit(valid, i) == 0:
            digit = np.uint64(0)
        out[i] = digit


def append_number(n, numbers, words):
    """Put numbers above the words."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        words[i] |= np.uint64(numbers[i]) << np.uint64(32)


def copy_words(n, source, out):
    """The same values, as words."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[i] = np.uint64(source[i])


def rank_groups(n, by_first, firsts, ranks, ordered):
    """The number of each group, and the groups' first rows in their order."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        group = by_first[i]
        ranks[group] = np.uint32(i)
        ordered[i] = firsts[group]


def spread(n, words, heads, order, ranks, numbers):
    """Each row's number. ``heads``: groups begun before a place of the sorted words."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        group = heads[i]
        if i > 0 and words[i] == words[max(i - 1, 0)]:
            group -= 1
        numbers[order[i]] = ranks[group]

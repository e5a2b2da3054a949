"""Numbers of groups on the GPU: ``operators.numbered_groups`` for keys that are no text. Keys become words, equal words
are brought together by sorting, and groups are numbered by their first rows."""

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
from finequery.operators.cuda.translate import Unsupported

#: Kinds of columns without a form here, and what they are called.
_HOST_KINDS = {"string": "strings without a dictionary", "int128": "128-bit values", "interval": "intervals"}


def number_on_gpu(columns: list[ColumnData], count: int, device: Any) -> tuple[np.ndarray, int, np.ndarray]:
    """Numbers of the rows' groups in order of appearance (u32), how many, first row of each (u32). NULL is a value.
    ``Unsupported`` with the reason for keys without a form."""
    kinds = dict.fromkeys(_HOST_KINDS[c.kind] for c in columns if c.kind in _HOST_KINDS)
    if kinds:
        raise Unsupported("; ".join(f"{kind} are numbered on the CPU" for kind in kinds))
    words = None
    for column in columns:
        digits = _digits(column, count, device)
        if words is not None:  # both fit 32 bits: there are fewer groups than rows
            launch(append_number, device, count, _numbered(words, device)[0], digits)
        words = digits
    numbers, groups, firsts = _numbered(words, device)
    return device.to_host(numbers, keep=True), groups, device.to_host(firsts, keep=True)


def _digits(column: ColumnData, count: int, device: Any) -> Any:
    """A column as words below 2**32, NULL as one of them."""
    data, masked = column.data[:count], column.validity is not None
    valid = device.view(column.validity.view(np.uint8) if masked else np.zeros(1, np.uint8))
    floats = 8 * data.itemsize if column.kind in ("float32", "float64") else 0
    source = device.view(data if column.kind in ("uint", "dict") else data.view(f"u{data.itemsize}"))
    words = device.empty(count, np.uint64)
    narrow = column.kind in ("uint", "dict") and data.itemsize < 4
    launch(key_words, device, count, floats, int(masked and narrow), int(masked), source, valid, words)
    if not narrow:
        launch(digits_of, device, count, int(masked), _numbered(words, device)[0], valid, words)
    return words


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
    ranks, ordered = device.empty(groups, np.uint32), device.empty(groups, np.uint32)
    launch(rank_groups, device, groups, by_first, firsts, ranks, ordered)
    numbers = device.empty(count, np.uint32)
    launch(spread, device, count, found, heads, order, ranks, numbers)
    return numbers, groups, ordered


def key_words(n, floats, above, masked, data, valid, out):
    """Stored values as words: moved up by ``above``, NULL as 0, doubles by value."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        word = np.uint64(data[i])
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

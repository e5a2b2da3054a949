"""Values by the numbers of the distinct ones, in the order in which they first appear.

Many are parted by their hashes first (reference: cpu-execution 4.11), so that each part's table and what it is compared
with stay in a cache, and threads work on different parts.
"""

from __future__ import annotations

import numpy as np

from finequery.operators.build import padded
from finequery.operators.lower import NONE
from finequery.operators.partition import partition
from finequery.operators.pool import Pool

#: Rows that one table is made for: its slots take 16 bytes for each.
ONE_TABLE = 1 << 15


def number_texts(
    offsets: np.ndarray, chars: np.ndarray, validity: np.ndarray | None, count: int, pool: Pool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The number of each of ``count`` texts (u32; NULL: ``NONE``), the first row of each number (u32), and the hash of
    each row."""
    valid = 0 if validity is None else validity.ctypes.data
    texts = (offsets.ctypes.data, chars.ctypes.data, valid)
    hashes = padded(count, np.int64, zero=False)
    pool.range("hash_texts", [*texts, hashes.ctypes.data], count)
    return (*_number("first_texts", hashes[:count], texts, pool), hashes)


def number_keys(keys: np.ndarray, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """The number of each int64 key (u32), and the first row of each number (u32)."""
    return _number("first_keys", keys, (), pool)


def _number(kernel: str, words: np.ndarray, more: tuple[int, ...], pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and first rows by a kernel that compares rows, parted by their ``words``."""
    count = len(words)
    rows, bounds = np.arange(count, dtype=np.uint32), np.array([0, count], dtype=np.int64)
    if count > ONE_TABLE:
        words, (rows,), bounds = partition(words, [rows], pool)
    table, numbers = padded(2 * count, np.uint64), padded(count, np.uint32, zero=False)
    addresses = [rows.ctypes.data, words.ctypes.data, table.ctypes.data, numbers.ctypes.data, *more]
    pool.range(kernel, addresses, count, bounds=bounds)
    found = np.flatnonzero(numbers[:count] == np.arange(count, dtype=np.uint32))
    firsts, places = padded(len(found), np.uint32, zero=False), np.empty(count, dtype=np.uint32)
    firsts[:] = found
    places[found] = np.arange(len(found), dtype=np.uint32)
    pool.range("renumber", [places.ctypes.data, numbers.ctypes.data, NONE], count)
    return numbers, firsts

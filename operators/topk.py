"""The first rows of an order, without sorting the others: a sample gives a threshold, few rows pass it, these are
sorted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finequery.jetson import memory
from finequery.operators.pool import Pool
from finequery.operators.sort import common_prefix, sort_rows, text_program
from finequery.operators.sort_keys import TILE_WORDS, Field, Key, chunk_program, cut, fields_of, row_bits_of, signed
from finequery.operators.take import take

_SAMPLE = 16384


def by_threshold(rows: float, limit: float) -> bool:
    """Whether the first ``limit`` of so many rows are looked for this way."""
    return rows >= 4 * _SAMPLE and limit <= rows // 16


def top_rows(keys: Sequence[Key], length: int, limit: int, pool: Pool) -> np.ndarray | None:
    """The first ``limit`` rows in the order of ``keys``; None where sorting all rows is the better way."""
    if not by_threshold(length, limit):
        return None
    row_bits = row_bits_of(length)
    room = 64 - row_bits
    fields: list[Field] = []
    complete = True
    for key in keys:
        if sum(field.bits for field in fields) >= room:
            complete = False
            break
        if key.column.kind == "string":
            fields += fields_of(key, length, pool, _prefixes(key, length, pool))
            complete = False
            break
        fields += fields_of(key, length, pool)
    chunks = cut(fields, room)
    if not chunks:
        return np.arange(limit, dtype=np.uint32) if complete else None
    complete = complete and len(chunks) == 1
    sample_rows = np.linspace(0, length - 1, _SAMPLE).astype(np.uint32)
    sample = np.empty(_SAMPLE, np.uint64)
    sampler = chunk_program(chunks[0], row_bits, sample_rows)
    pool.range("sort_words", (sampler.address, sample.ctypes.data), _SAMPLE, _SAMPLE)
    program = chunk_program(chunks[0], row_bits)
    expected = limit * _SAMPLE / length
    rank = int(expected + 4 * expected**0.5) + 8
    for _ in range(2):
        if rank >= _SAMPLE // 2:
            return None
        greatest = int(np.partition(sample, rank)[rank])
        if not complete:
            greatest |= (1 << row_bits) - 1  # with all ties, which the rest of the keys decides
        room = 4 * rank * length // _SAMPLE + (65536 if complete else length // 2)
        words = _select(program.address, greatest, room, length, pool)
        if words is None:
            return None
        if len(words) >= limit:
            break
        rank *= 8
    else:
        return None
    mask = np.uint64((1 << row_bits) - 1)
    if complete:
        words.sort()
        return (words[:limit] & mask).astype(np.uint32)
    if len(words) > length // 2:
        return None
    rows = np.sort((words & mask).astype(np.uint32))
    few = [(take(key.column, rows, pool), key.descending, key.nulls_first) for key in keys]
    return rows[sort_rows(few, len(rows), pool, limit)]  # at most half of the rows each time


def _select(program: int, greatest: int, room: int, length: int, pool: Pool) -> np.ndarray | None:
    """The words up to ``greatest``; None if one thread found more than ``room``."""
    out = np.empty((pool.threads, room), np.uint64)
    tiles = np.empty((pool.threads, TILE_WORDS), np.uint64)
    found = np.zeros((pool.threads, 8), np.int64)
    words = (program, tiles.ctypes.data, signed(greatest), out.ctypes.data, room, found.ctypes.data)
    if pool.range("sort_select", words, length) < 0:
        return None
    return np.concatenate([out[i, :count] for i, count in enumerate(found[:, 0].tolist())])


def _prefixes(key: Key, length: int, pool: Pool) -> Field:
    """The first bytes that strings do not all share, in place of the strings."""
    shared, _ = common_prefix(key.column, pool, 0, None, 0, length)
    words = memory.array(length, np.uint64)
    program = text_program(key.column, shared, 7, 0, None)
    pool.range("sort_words", (program.address, words.ctypes.data), length)
    return Field("u64", words, 60)

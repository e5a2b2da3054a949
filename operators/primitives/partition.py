"""Radix partitioning of rows by the top bits of their key's hash."""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import p_i64, p_u8, p_u16, p_u32, p_u64
from finequery.operators.primitives import kernel
from finequery.operators.primitives.hashing import mix

#: Rows whose places are found before their payloads are moved.
BATCH = np.uint64(1024)
TOP = np.uint64(56)


@kernel("partition_count")
def partition_count(first, end, thread, args):
    """As a range kernel, one range per morsel: keys (i64), histograms (256 words for each range number), rows per
    range."""
    keys, histogram = p_u64(args[0]), p_i64(args[1] + (first // args[2]) * 2048)
    for j in range(np.uint64(first), np.uint64(end)):
        histogram[mix(keys[j]) >> TOP] += 1
    return np.int64(0)


@kernel("partition_rows")
def partition_rows(first, end, thread, args):
    """Move rows to their partitions: keys, cursors (256 words per range), rows per range, keys out, scratch (u64 per
    row of a batch) of all threads, number of payloads, then for each payload: source, target, width.

    Plain stores: 256 lines a column stay in the first cache, and buffers of whole lines cost more than they save
    (reference: cpu-execution 4.11)."""
    keys, cursor, out = p_u64(args[0]), p_u64(args[1] + (first // args[2]) * 2048), p_u64(args[3])
    if args[5] == 1 and args[8] == 2:
        source, target = p_u16(args[6]), p_u16(args[7])
        for j in range(np.uint64(first), np.uint64(end)):
            part = mix(keys[j]) >> TOP
            at = cursor[part]
            cursor[part] = at + np.uint64(1)
            out[at] = keys[j]
            target[at] = source[j]
        return np.int64(0)
    places = p_u64(args[4] + thread * np.int64(BATCH) * 8)
    for begin in range(np.uint64(first), np.uint64(end), BATCH):
        rows = min(BATCH, np.uint64(end) - begin)
        for j in range(rows):
            key = keys[begin + j]
            part = mix(key) >> TOP
            at = cursor[part]
            cursor[part] = at + np.uint64(1)
            out[at] = key
            places[j] = at
        for p in range(np.uint64(args[5])):
            word = np.uint64(6) + p * np.uint64(3)
            s, d, width = args[word], args[word + np.uint64(1)], args[word + np.uint64(2)]
            if width == 8:
                for j in range(rows):
                    p_u64(d)[places[j]] = p_u64(s)[begin + j]
            elif width == 4:
                for j in range(rows):
                    p_u32(d)[places[j]] = p_u32(s)[begin + j]
            elif width == 2:
                for j in range(rows):
                    p_u16(d)[places[j]] = p_u16(s)[begin + j]
            elif width == 1:
                for j in range(rows):
                    p_u8(d)[places[j]] = p_u8(s)[begin + j]
            else:
                for j in range(rows):
                    p_u64(d)[places[j] * np.uint64(2)] = p_u64(s)[(begin + j) * np.uint64(2)]
                    p_u64(d)[places[j] * np.uint64(2) + np.uint64(1)] = p_u64(s)[
                        (begin + j) * np.uint64(2) + np.uint64(1)
                    ]
    return np.int64(0)

"""Radix sort and selection of 64-bit words with row numbers, eight bits a pass, from the least significant on.

Satish, Harris, Garland, "Designing efficient sorting algorithms for manycore GPUs", 2009, section 4, without their sort
within a tile: a tile's digits are counted, the counts are summed over all tiles in order of digits, and each thread
puts the rows of its run behind those of the threads before it. Only digits that differ among the words take a pass.
"""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from finequery.operators.cuda.launch import launch, launch_runs, tiles
from finequery.operators.cuda.scan import exclusive_scan

ALL = (1 << 64) - 1
#: Rows of a thread's run, of a tile at most (its counts are 16 bits), threads of a block (256 counts for each lie in
#: 32 KiB of shared memory).
RUN, MOST, THREADS = 64, (1 << 16) - 1, 64


def radix_sort(device: Any, words: Any, rows: Any) -> tuple[Any, Any]:
    """Words (u64) in ascending order with their row numbers (u32), stable; the given arrays may be written."""
    count = words.size
    _, many, _ = tiles(device, count, RUN, MOST, THREADS)
    other = device.empty(count, np.uint64), device.empty(count, np.uint32)
    for shift in digits(varying(device, words)):
        counts = device.empty(256 * many, np.int64)
        launch_runs(count_digits, device, count, RUN, MOST, THREADS, shift, words, counts)
        exclusive_scan(device, counts)
        launch_runs(scatter, device, count, RUN, MOST, THREADS, shift, words, rows, counts, *other)
        (words, rows), other = other, (words, rows)
    return words, rows


def varying(device: Any, words: Any) -> int:
    """The bits that are not the same in all words."""
    found = device.zeros(2, np.uint64, "result")
    launch(bits_found, device, words.size, words, found)
    ones, noughts = device.to_host(found).tolist()
    return ones & noughts


def digits(bits: int) -> Iterator[int]:
    """The lowest bits of digits that have all these bits, from the least significant on."""
    while bits:
        shift = min((bits & -bits).bit_length() - 1, 56)
        yield shift
        bits &= ~(255 << shift)


def least(device: Any, words: Any, wanted: int, enough: int) -> Any:
    """The positions (u32), ascending, of words among which are all up to the ``wanted`` least and their equals; not
    many more than ``enough`` unless words are equal."""
    count, bits = words.size, varying(device, words)
    mask, prefix, below = 0, 0, 0
    found = count
    while bits and found > enough:
        shift = max(bits.bit_length() - 8, 0)
        counts = device.zeros(256, np.int64, "result")
        launch(count_prefixed, device, count, shift, np.uint64(mask), np.uint64(prefix), words, counts)
        ends = below + np.cumsum(device.to_host(counts))
        digit = int(np.searchsorted(ends, wanted))
        found, below = int(ends[digit]), int(ends[digit - 1]) if digit else below
        mask, prefix = mask | 255 << shift, prefix | digit << shift
        bits &= (1 << shift) - 1
    places = device.empty(count, np.int64)
    launch(mark_least, device, count, np.uint64(mask), np.uint64(prefix), words, places)
    exclusive_scan(device, places)
    result = device.empty(found, np.uint32)
    launch(list_least, device, count, np.uint64(mask), np.uint64(prefix), words, places, result)
    return result


def bits_found(n, words, found):
    """Bits that are 1 in some word, and bits that are 0 in some."""
    ones, noughts = np.uint64(0), np.uint64(0)
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        ones |= words[i]
        noughts |= ~words[i]
    cuda.atomic.or_(found, 0, ones)
    cuda.atomic.or_(found, 1, noughts)


def count_digits(n, each, tiles, shift, words, counts):
    """Words by digit and tile."""
    found = cuda.shared.array(256, np.int32)
    size = each * cuda.blockDim.x
    for tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
        for digit in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
            found[digit] = 0
        cuda.syncthreads()
        for i in range(tile * size + cuda.threadIdx.x, min((tile + 1) * size, n), cuda.blockDim.x):
            cuda.atomic.add(found, np.int64(words[i] >> np.uint64(shift)) & 255, np.int32(1))
        cuda.syncthreads()
        for digit in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
            counts[digit * tiles + tile] = found[digit]
        cuda.syncthreads()


def scatter(n, each, tiles, shift, words, rows, places, words_out, rows_out):
    """Words and rows to their places: behind those of the digit in the tiles before (``places``), then behind those of
    the threads before, whose runs come before this thread's, then behind those of its own run."""
    counts = cuda.shared.array(16384, np.uint16)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for tile in range(cuda.blockIdx.x, tiles, cuda.gridDim.x):
        for digit in range(256):
            counts[digit * threads + thread] = 0
        first = min((tile * threads + thread) * each, n)
        end = min(first + each, n)
        for i in range(first, end):
            at = (np.int64(words[i] >> np.uint64(shift)) & 255) * threads + thread
            counts[at] = np.uint16(counts[at] + 1)
        cuda.syncthreads()
        for digit in range(thread, 256, threads):
            before = np.int64(0)
            for other in range(digit * threads, digit * threads + threads):
                count = counts[other]
                counts[other] = np.uint16(before)
                before += np.int64(count)
        cuda.syncthreads()
        for i in range(first, end):
            word = words[i]
            digit = np.int64(word >> np.uint64(shift)) & 255
            at = digit * threads + thread
            place = places[digit * tiles + tile] + np.int64(counts[at])
            counts[at] = np.uint16(counts[at] + 1)
            words_out[place] = word
            rows_out[place] = rows[i]
        cuda.syncthreads()


def count_prefixed(n, shift, mask, prefix, words, counts):
    """Words by digit, of those whose masked bits are the prefix."""
    found = cuda.shared.array(256, np.int32)
    for digit in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        found[digit] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if words[i] & mask == prefix:
            cuda.atomic.add(found, np.int64(words[i] >> np.uint64(shift)) & 255, np.int32(1))
    cuda.syncthreads()
    for digit in range(cuda.threadIdx.x, 256, cuda.blockDim.x):
        cuda.atomic.add(counts, digit, np.int64(found[digit]))


def mark_least(n, mask, prefix, words, marks):
    """1 for words whose masked bits are at most the prefix, else 0."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        marks[i] = np.int64(words[i] & mask <= prefix)


def list_least(n, mask, prefix, words, places, positions):
    """The positions of the words that ``mark_least`` marked."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if words[i] & mask <= prefix:
            positions[places[i]] = np.uint32(i)

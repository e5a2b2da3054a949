"""Groups: finding the group of each row of a tile, by hash tables of 64-bit keys and by runs of equal keys.

A *row table* holds a group in a row of 64-bit words: its key, then its accumulators, so that finding a group brings
them near. The number of a group is the position of its row in words; the accumulation kernels add at
``table + 8 * place + 8 * number`` as they do in plain arrays. Slots are found by linear probing from the hash's bits
below the topmost ``skip``. Rows start as copies of a template: the key EMPTY and the accumulators' first values. The
group whose key is EMPTY itself has the row behind the last slot, and behind that lies a row that is written in vain.

State of a thread's table (int64 words): 0 groups, the one of key EMPTY not counted, 1 most groups, 2 table, 3 shift (64
- skip - log2 slots), 4 slots - 1, 5 words of a row, 6 scratch (u32 per row of a tile), 7 template, 8 whether the key
EMPTY occurred, 9 the partition in the table + 1, 10 address of the number of groups flushed by all threads, 11 address
of two words for each word of a row: where its column lies, and the column's stride in words, 12 groups of the partition
before, as those of the next will be about as many.
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators import scalar
from finequery.operators.intrinsics import POINTER, atomic_add, copy_bytes, p_i64, p_u32, p_u64, prefetch
from finequery.operators.primitives import kernel
from finequery.operators.primitives.hashing import mix

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)
EMPTY = np.uint64(scalar.EMPTY_KEY)
#: Tables up to this many words stay near the core: nothing is prefetched there.
NEAR_WORDS = np.uint64(1 << 17)
#: Rows that are hashed, then looked up together.
BATCH = np.uint64(1024)
#: Rows that the prefetching runs ahead.
AHEAD = np.uint64(16)


@njit(error_model="numpy")
def _clear(state):
    """All rows as the template."""
    size, total = state[5] * np.int64(8), (state[4] + np.int64(3)) * state[5] * np.int64(8)
    copy_bytes(state[2], state[7], size)
    done = size
    while done < total:
        more = min(done, total - done)
        copy_bytes(state[2] + done, state[2], more)
        done += more
    state[0] = np.int64(0)
    state[8] = np.int64(0)


@njit(error_model="numpy")
def _flush(state):
    """Append the groups to the columns, one after another."""
    groups = np.uint64(state[0])
    count = state[0] + state[8]
    first = atomic_add(state[10], count)
    table, words, columns = p_u64(state[2]), np.uint64(state[5]), p_i64(state[11])
    for word in range(words):
        stride = np.uint64(columns[word * TWO + ONE])
        out = p_u64(columns[word * TWO] + first * np.int64(stride) * np.int64(8))
        z, at = ZERO, ZERO
        while z < groups:
            out[z * stride] = table[at + word]
            z += np.uint64(table[at] != EMPTY)
            at += words
        if state[8] != 0:
            out[z * stride] = table[(np.uint64(state[4]) + ONE) * words + word]


@kernel("clear_rows")
def clear_rows(t, n, k, args):
    """state"""
    _clear(args)
    return np.int64(0)


@kernel("flush_rows")
def flush_rows(t, n, k, args):
    """state"""
    _flush(args)
    return np.int64(0)


@kernel("rehash_rows")
def rehash_rows(t, n, k, args):
    """Move the rows of a smaller table into the state's new, cleared one: state, old table, its slots, groups, whether
    the key EMPTY occurred"""
    state, old = p_i64(args[0]), p_u64(args[1])
    table, shift, mask, words = p_u64(state[2]), np.uint64(state[3]), np.uint64(state[4]), np.uint64(state[5])
    end, source = (mask + ONE) * words, ZERO
    for _ in range(np.uint64(args[2])):
        key = old[source]
        if key != EMPTY:
            at = ((mix(key) >> shift) & mask) * words
            while table[at] != EMPTY:
                at += words
                at = at if at < end else ZERO
            for word in range(words):
                table[at + word] = old[source + word]
        source += words
    for word in range(words):
        table[end + word] = old[source + word]
    state[0], state[8] = args[3], args[4]
    return np.int64(0)


def _define_find(name: str, source: str | None) -> None:
    pointer = POINTER[source or "i64"]
    summed, counted = source is not None, name.endswith("count")

    @kernel(name)
    def find_rows(t, n, k, args):
        """keys (i64), stride, state, out (u32), morsel (address of the word with its number) or 0, then what is added
        up at the same time: source, stride, place in the row.

        With a morsel, morsels are partitions of the rows: when another one begins, the groups of the last are flushed.
        -1 where the table must grow."""
        keys, state, out = p_u64(args[0] + t * args[1]), p_i64(args[2]), p_u32(args[3])
        if args[4] != 0:
            partition = p_i64(args[4])[0] + 1
            if partition != state[9]:
                if state[9] != 0:
                    state[12] = state[0]
                    _flush(state)
                    _clear(state)
                state[9] = partition
        if state[0] + k > state[1]:
            return np.int64(-1)
        table, shift, mask, words = p_u64(state[2]), np.uint64(state[3]), np.uint64(state[4]), np.uint64(state[5])
        x, place = pointer(args[5] + t * args[6]), np.uint64(args[7])
        end = (mask + ONE) * words
        missed, vain = p_u32(state[6]), end + words
        # at a low load a branch per row is nearly always predicted
        near = end <= NEAR_WORDS and np.int64(6) * max(state[0], state[12]) <= state[4]
        new, odd = ZERO, ZERO
        for first in range(ZERO, np.uint64(k), BATCH):
            last = min(first + BATCH, np.uint64(k))
            for j in range(first, last):
                key = keys[j]
                at = ((mix(key) >> shift) & mask) * words
                odd |= np.uint64(key == EMPTY)
                out[j] = np.uint32(at if key != EMPTY else end)
            if near:
                for j in range(first, last):
                    key, at = keys[j], np.uint64(out[j])
                    found = table[at]
                    if found != key:
                        while found != key:
                            if found == EMPTY:
                                table[at] = key
                                new += ONE
                                break
                            at += words
                            at = at if at < end else ZERO
                            found = table[at]
                        out[j] = np.uint32(at)
                    if summed:
                        table[at + place] += np.uint64(np.int64(x[j]))
                    elif counted:
                        table[at + place] += ONE
                continue
            # A mispredicted branch costs more than all the rest of a row: rows whose first slot holds another key are
            # listed without a branch and tried again together, one slot further on.
            rest = ZERO
            for j in range(first, last):
                prefetch(state[2] + np.int64(out[min(j + AHEAD, last - ONE)]) * np.int64(8))
                key, at = keys[j], np.uint64(out[j])
                found = table[at]
                hit = (found == key) | (found == EMPTY)
                to = at if hit else vain
                table[to] = key
                if summed:
                    table[to + place] += np.uint64(np.int64(x[j]))
                elif counted:
                    table[to + place] += ONE
                new += np.uint64((found == EMPTY) & (key != EMPTY))
                missed[rest] = np.uint32(j)
                rest += np.uint64(not hit)
            while rest > ZERO:
                again, rest = rest, ZERO
                for i in range(again):
                    j = np.uint64(missed[i])
                    key, at = keys[j], np.uint64(out[j]) + words
                    at = at if at < end else ZERO
                    out[j] = np.uint32(at)
                    found = table[at]
                    hit = (found == key) | (found == EMPTY)
                    to = at if hit else vain
                    table[to] = key
                    if summed:
                        table[to + place] += np.uint64(np.int64(x[j]))
                    elif counted:
                        table[to + place] += ONE
                    new += np.uint64(found == EMPTY)
                    missed[rest] = np.uint32(j)
                    rest += np.uint64(not hit)
        state[0] += np.int64(new)
        state[8] |= np.int64(odd)
        return k


_define_find("find_rows", None)
_define_find("find_rows_count", None)
for _source in ("u8", "u16", "u32", "i64"):
    _define_find(f"find_rows_sum_{_source}", _source)


@kernel("run_group")
def run_group(t, n, k, args):
    """Numbers of runs of equal keys: keys (i64), state, out (u32), morsel (address of the word with its number).

    state: 0 groups, 1 most groups, 2 keys by group, 3 last morsel + 1, 4 last key. A run begins anew in every morsel;
    -1 where there is no room."""
    keys, state, out = p_i64(args[0]), p_i64(args[1]), p_u32(args[2])
    groups = state[0]
    if groups + k > state[1]:
        return np.int64(-1)
    listed = p_i64(state[2])
    morsel = p_i64(args[3])[0] + 1
    last = state[4]
    j = np.uint64(0)
    if morsel != state[3] and k > 0:
        state[3] = morsel
        last = keys[j]
        listed[np.uint64(groups)] = last
        groups += 1
    number = groups - 1
    for j in range(np.uint64(k)):
        key = keys[j]
        number += np.int64(key != last)
        listed[np.uint64(number)] = key
        last = key
        out[j] = np.uint32(number)
    state[0] = number + 1
    state[4] = last
    return k

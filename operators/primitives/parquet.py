"""Decoding of Parquet column chunks, straight into a column's narrow array.

A chunk is one column of one row group: pages, each a header (Thrift, compact protocol), then the bytes, compressed or
not. Covered is what flat columns of integers and repeating strings usually have: data pages of both versions, PLAIN
values and dictionary codes, uncompressed or Snappy, NULLs. At anything else, and at anything that contradicts itself,
the kernels give up and return a negative number; the caller then reads the column in the general way. Nothing is read
outside of the chunk but the SLACK bytes behind it.

Formats: https://parquet.apache.org/docs/file-format/data-pages/encodings/ and
https://github.com/google/snappy/blob/main/format_description.txt
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np
from numba import njit

from finequery.operators.intrinsics import (
    POINTER,
    atomic_add,
    call,
    copy_bytes,
    count_leading_zeros,
    load_u32,
    load_u64,
    p_i64,
    p_u8,
    store_u64,
)
from finequery.operators.primitives import kernel

#: Bytes behind a source, and behind a target, that may be touched.
SLACK = 16
#: The head of the scratch memory: fields of a page header (16), of the header inside it (16), a stack of field numbers.
HEADER_WORDS, INNER, STACK, DEPTH = 48, 16, 32, 8
DATA, DICTIONARY, DATA_V2 = 0, 2, 3
PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY = 0, 2, 3, 8
#: Arguments of parquet_chunk: its words by number.
(SOURCE, SIZE, SNAPPY, FORM, OPTIONAL, SCRATCH, ROOM, TABLE, ENTRIES, LOW, SHIFT, INVERSE, SPAN, ADD, OUT, VALID) = (
    range(16)
)
#: What a chunk's values are.
INT32, UINT32, INT64, CODES = 0, 1, 2, 3

ZERO, ONE, EIGHT, BYTE, ALL = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(255), np.uint64(2**64 - 1)


@njit(error_model="numpy", inline="always")
def _byte(address):
    return np.int64(p_u8(address)[ZERO])


@njit(error_model="numpy")
def _varint(at, end):
    """A number of seven bits a byte, and the position behind it (-1: cut off)."""
    value = shift = ZERO
    while at < end and shift < np.uint64(64):
        part = np.uint64(_byte(at))
        at += 1
        value |= (part & np.uint64(127)) << shift
        if part < np.uint64(128):
            return np.int64(value), at
        shift += np.uint64(7)
    return np.int64(0), np.int64(-1)


@njit(error_model="numpy", inline="always")
def _zigzag(value):
    return np.int64(np.uint64(value) >> ONE) ^ -(value & 1)


@njit(error_model="numpy")
def _page_header(at, end, header):
    """Read a PageHeader: numbers of its fields into header[field], those of the page type's own header into
    header[INNER + field]. The position behind it; -1: not a header."""
    for i in range(np.uint64(HEADER_WORDS)):
        header[i] = 0
    header[np.uint64(INNER + 7)] = 1  # version 2: is_compressed, true where absent
    depth = inside = 0
    while at < end:
        start = _byte(at)
        at += 1
        if start == 0:
            depth -= 1
            if depth < 0:
                return at
            continue
        kind, field = start & 15, header[np.uint64(STACK + depth)] + (start >> 4)
        if start >> 4 == 0:
            field, at = _varint(at, end)
            field = _zigzag(field)
        if at < 0 or field < 0:
            return np.int64(-1)
        header[np.uint64(STACK + depth)] = field
        value = np.int64(0)
        if kind == 1 or kind == 2:
            value = np.int64(kind == 1)
        elif 3 <= kind <= 6:
            value, at = _varint(at, end)
            value = _zigzag(value)
        elif kind == 7:
            at += 8
        elif kind == 8:
            length, at = _varint(at, end)
            if at < 0 or length < 0 or length > end - at:
                return np.int64(-1)
            at += length
        elif kind == 12 and depth + 1 < DEPTH:
            inside = field if depth == 0 else inside
            depth += 1
            header[np.uint64(STACK + depth)] = 0
        else:
            return np.int64(-1)
        if at < 0:
            return np.int64(-1)
        if field < 16 and kind <= 6:
            if depth == 0:
                header[np.uint64(field)] = value
            elif depth == 1 and (inside == 5 or inside == 7 or inside == 8):
                header[np.uint64(INNER + field)] = value
    return np.int64(-1)


@njit(error_model="numpy")
def _unsnappy(at, size, target, length):
    """Whether ``size`` bytes expand to exactly ``length``."""
    end = at + size
    claimed, at = _varint(at, end)
    if at < 0 or claimed != length:
        return False
    out, stop = target, target + length
    while at < end:
        word = load_u64(at)
        tag = np.int64(word & BYTE)
        if tag & 3 == 0:
            count = (tag >> 2) + 1
            if count <= 4 and count < end - at and count <= stop - out:  # the next tag is in the word as well
                store_u64(out, word >> EIGHT)
                out += count
                at += count + 1
                word >>= np.uint64(8 * count + 8)
                tag = np.int64(word & BYTE)
                if tag & 3 == 0 or at >= end:
                    continue
            else:
                at += 1
                if count > 60:
                    width = count - 60
                    if width > end - at:
                        return False
                    count = np.int64((word >> EIGHT) & (ALL >> np.uint64(64 - 8 * width))) + 1
                    at += width
                if count > end - at or count > stop - out:
                    return False
                if count <= 16:
                    store_u64(out, load_u64(at))
                    store_u64(out + 8, load_u64(at + 8))
                else:
                    copy_bytes(out, at, count)
                at += count
                out += count
                continue
        if tag & 3 == 1:
            count, back = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | np.int64((word >> EIGHT) & BYTE)
            at += 2
        elif tag & 3 == 2:
            count, back = (tag >> 2) + 1, np.int64((word >> EIGHT) & np.uint64(0xFFFF))
            at += 3
        else:
            count, back = (tag >> 2) + 1, np.int64(load_u32(at + 1))
            at += 5
        if at > end or back == 0 or back > out - target or count > stop - out:
            return False
        source = out - back
        if back >= 8:
            store_u64(out, load_u64(source))
            done = 8
            while done < count:
                store_u64(out + done, load_u64(source + done))
                done += 8
        else:  # the copy repeats what it writes
            bytes_of, source_of = p_u8(out), p_u8(source)
            for j in range(np.uint64(count)):
                bytes_of[j] = source_of[j]
        out += count
    return out == stop


@njit(error_model="numpy")
def _expanded(at, size, length, snappy, target, room):
    """Where the ``length`` bytes of a page are, after decompression if it is compressed; 0: not to be had."""
    if not snappy:
        return at if size == length else np.int64(0)
    if length < 0 or length + SLACK > room:
        return np.int64(0)
    return target if _unsnappy(at, size, target, length) else np.int64(0)


@njit(error_model="numpy")
def _levels(at, end, count, valid):
    """Decode ``count`` definition levels of 0 or 1 into bytes at ``valid`` (0: all have to be 1). How many are 1; -1:
    damaged."""
    done = ones = np.int64(0)
    while done < count:
        start, at = _varint(at, end)
        if at < 0 or start < 0:
            return np.int64(-1)
        if start & 1 == 0:
            run = min(start >> 1, count - done)
            if at >= end:
                return np.int64(-1)
            level = _byte(at)
            at += 1
            if level > 1 or (level == 0 and valid == 0 and run > 0):
                return np.int64(-1)
            ones += run * level
            if valid != 0:
                flags = p_u8(valid + done)
                for j in range(np.uint64(run)):
                    flags[j] = level
            done += run
            continue
        if start >> 1 > end - at:
            return np.int64(-1)
        run = min((start >> 1) * 8, count - done)
        for j in range(np.uint64(run)):
            bit = (_byte(at + np.int64(j >> np.uint64(3))) >> np.int64(j & np.uint64(7))) & 1
            ones += bit
            if valid != 0:
                p_u8(valid + done)[j] = bit
            elif bit == 0:
                return np.int64(-1)
        at += start >> 1
        done += run
    return ones


def _define_chunk(name: str) -> None:
    pointer, width = POINTER[name], {"u8": 1, "u16": 2, "u32": 4, "i64": 8}[name]
    element = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32, "i64": np.int64}[name]

    @njit(error_model="numpy", inline="always")
    def narrowed(value, low, shift, inverse):
        """(value - low) divided by a factor with this inverse; larger than any quotient where that leaves a rest."""
        product = (np.uint64(value) - low) * inverse
        return product >> shift | product << ((np.uint64(64) - shift) & np.uint64(63))

    @njit(error_model="numpy")
    def plain(source, end, count, form, args, target):
        """Narrow ``count`` PLAIN values; False where one is out of range."""
        low, shift, inverse = np.uint64(args[LOW]), np.uint64(args[SHIFT]), np.uint64(args[INVERSE])
        span, add, out = np.uint64(args[SPAN]), np.uint64(args[ADD]), pointer(target)
        bad = ZERO
        if count * (8 if form == INT64 else 4) > end - source:
            return False
        if form == INT64:
            for j in range(np.uint64(count)):
                q = narrowed(np.int64(load_u64(source + np.int64(j * EIGHT))), low, shift, inverse)
                bad |= np.uint64(q > span)
                out[j] = element(q + add)
        elif form == INT32:
            for j in range(np.uint64(count)):
                value = np.int64(np.int32(load_u32(source + np.int64(j * np.uint64(4)))))
                q = narrowed(value, low, shift, inverse)
                bad |= np.uint64(q > span)
                out[j] = element(q + add)
        else:
            for j in range(np.uint64(count)):
                q = narrowed(np.int64(load_u32(source + np.int64(j * np.uint64(4)))), low, shift, inverse)
                bad |= np.uint64(q > span)
                out[j] = element(q + add)
        return bad == ZERO

    @njit(error_model="numpy")
    def coded(source, end, count, table_address, entries, most_bits, target):
        """Look ``count`` dictionary codes up (runs, and groups of eight packed codes); False: damaged. The table has
        room for all codes of ``most_bits`` bits."""
        if source >= end:
            return False
        bits = np.uint64(_byte(source))
        at = source + 1
        if bits > most_bits:
            return False
        table, out = pointer(table_address), pointer(target)
        mask = (ONE << bits) - ONE
        worst, done = ZERO, np.int64(0)
        while done < count:
            start, at = _varint(at, end)
            if at < 0 or start < 0:
                return False
            if start & 1 == 0:
                run = min(start >> 1, count - done)
                size = np.int64((bits + np.uint64(7)) >> np.uint64(3))
                if size > end - at:
                    return False
                code = np.uint64(load_u32(at)) & mask if size else ZERO
                at += size
                worst = max(worst, code)
                value = table[code]
                to = pointer(target + done * width)
                for j in range(np.uint64(run)):
                    to[j] = value
                done += run
                continue
            groups = start >> 1
            if groups > (count - done + 7) >> 3:
                groups = (count - done + 7) >> 3
            run = min(groups * 8, count - done)
            if (run * np.int64(bits) + 7) >> 3 > end - at:
                return False
            first, whole = np.uint64(done), np.uint64(run) >> np.uint64(3)
            if bits <= EIGHT:
                for g in range(whole):
                    word = load_u64(at + np.int64(g * bits))
                    to = first + g * EIGHT
                    for j in range(EIGHT):
                        code = (word >> (j * bits)) & mask
                        worst = max(worst, code)
                        out[to + j] = table[code]
            else:
                for g in range(whole):
                    to = first + g * EIGHT
                    for j in range(EIGHT):
                        place = j * bits
                        word = load_u64(at + np.int64(g * bits + (place >> np.uint64(3))))
                        code = (word >> (place & np.uint64(7))) & mask
                        worst = max(worst, code)
                        out[to + j] = table[code]
            for j in range(whole * EIGHT, np.uint64(run)):
                place = j * bits
                code = (load_u64(at + np.int64(place >> np.uint64(3))) >> (place & np.uint64(7))) & mask
                worst = max(worst, code)
                out[first + j] = table[code]
            at += groups * np.int64(bits)
            done += run
        return worst < np.uint64(entries) or count == 0

    @njit(error_model="numpy")
    def spread(target, valid, count, present):
        """Move the first ``present`` values to the rows that are valid, 0 to the others; from the end, in place."""
        out, flags = pointer(target), p_u8(valid)
        left = np.uint64(present)
        for i in range(np.uint64(count)):
            j = np.uint64(count) - ONE - i
            if flags[j]:
                left -= ONE
                out[j] = out[left]
            else:
                out[j] = element(0)

    @kernel(f"parquet_chunk_{name}")
    def chunk(t, n, k, args):
        """The first n values of a chunk (see SOURCE and the words after it) into OUT, and a byte a row into VALID (0:
        there are no NULLs). LOW, SHIFT, INVERSE, SPAN: value = LOW + factor * (0 to SPAN), the factor by its twos and
        the inverse of the rest; stored is the multiple of the factor plus ADD. With CODES, TABLE holds what to store
        for each of ENTRIES codes; else it is room for ENTRIES. Gives the values found, or negative: given up."""
        form, header = args[FORM], p_i64(args[SCRATCH])
        room, area = args[ROOM] - 8 * HEADER_WORDS, args[SCRATCH] + 8 * HEADER_WORDS
        at, end, done = args[SOURCE], args[SOURCE] + args[SIZE], np.int64(0)
        entries, bits = np.int64(-1), ZERO
        if form == CODES:
            entries = args[ENTRIES]
            bits = np.uint64(64) - count_leading_zeros(np.uint64(max(entries, 2) - 1))
        while done < n and at < end:
            body = _page_header(at, end, header)
            if body < 0:
                return np.int64(-1)
            kind, length, size = header[np.uint64(1)], header[np.uint64(2)], header[np.uint64(3)]
            if size < 0 or size > end - body or length < 0:
                return np.int64(-1)
            at = body + size
            count = header[np.uint64(INNER + 1)]
            if count < 0 or (kind != DATA and kind != DATA_V2 and kind != DICTIONARY):
                return np.int64(-2)
            if kind == DICTIONARY:
                if form == CODES:
                    continue
                if count > length:  # before it is shifted and multiplied
                    return np.int64(-1)
                source = _expanded(body, size, length, args[SNAPPY] != 0, area, room)
                bits = np.uint64(64) - count_leading_zeros(np.uint64(max(count, 2) - 1))
                encoding = header[np.uint64(INNER + 2)]
                if source == 0 or np.int64(ONE << bits) > args[ENTRIES] or encoding not in (PLAIN, PLAIN_DICTIONARY):
                    return np.int64(-3)
                if not plain(source, source + length, count, form, args, args[TABLE]):
                    return np.int64(-4)
                entries = count
                continue
            levels = levels_end = np.int64(0)
            if kind == DATA:
                encoding = header[np.uint64(INNER + 2)]
                source = _expanded(body, size, length, args[SNAPPY] != 0, area, room)
                source_end = source + length
                if source == 0:
                    return np.int64(-3)
                if args[OPTIONAL] != 0:
                    if header[np.uint64(INNER + 3)] != RLE or length < 4:
                        return np.int64(-2)
                    levels = source + 4
                    levels_end = levels + np.int64(load_u32(source))
                    source = levels_end
                    if levels_end > source_end:
                        return np.int64(-1)
            else:
                encoding = header[np.uint64(INNER + 4)]
                before = header[np.uint64(INNER + 5)]
                if header[np.uint64(INNER + 6)] != 0 or before < 0 or before > size or before > length:
                    return np.int64(-2)
                levels, levels_end = body, body + before
                packed = args[SNAPPY] != 0 and header[np.uint64(INNER + 7)] != 0
                source = _expanded(levels_end, size - before, length - before, packed, area, room)
                source_end = source + length - before
                if source == 0:
                    return np.int64(-3)
            count = min(count, n - done)
            present, valid = count, args[VALID]
            if args[OPTIONAL] != 0:
                present = _levels(levels, levels_end, count, valid + done if valid else valid)
                if present < 0:
                    return np.int64(-5)
            elif valid != 0:
                flags = p_u8(valid + done)
                for j in range(np.uint64(count)):
                    flags[j] = 1
            target = args[OUT] + done * width
            if present == 0:
                good = True  # nothing but NULLs: some writers then leave the values out altogether
            elif encoding == PLAIN and form != CODES:
                good = plain(source, source_end, present, form, args, target)
            elif entries >= 0 and encoding in (RLE_DICTIONARY, PLAIN_DICTIONARY):
                good = coded(source, source_end, present, args[TABLE], entries, bits, target)
            else:
                return np.int64(-2)
            if not good:
                return np.int64(-4)
            if present < count:
                spread(target, valid + done, count, present)
            done += count
        return done


for _name in ("u8", "u16", "u32", "i64"):
    _define_chunk(_name)


@kernel("parquet_work")
def parquet_work(t, n, k, args):
    """counter, tasks, how many, scratch, its size, table: run up to n of the tasks that no thread has taken yet. A task
    is four words: kernel, values, words, and a word of its column that is not 0 once the column is given up. 0: no
    task is left."""
    tasks, many = p_i64(args[1]), args[2]
    for _ in range(np.uint64(n)):
        mine = atomic_add(args[0], 1)
        if mine >= many:
            return np.int64(0)
        first = np.uint64(mine) * np.uint64(4)
        function, values = tasks[first], tasks[first + ONE]
        words, failed = p_i64(tasks[first + np.uint64(2)]), p_i64(tasks[first + np.uint64(3)])
        if failed[ZERO] != 0:
            continue
        words[np.uint64(SCRATCH)], words[np.uint64(ROOM)] = args[3], args[4]
        if words[np.uint64(FORM)] != CODES:
            words[np.uint64(TABLE)] = args[5]
        if call(function, 0, values, 0, tasks[first + np.uint64(2)]) != values:
            failed[ZERO] = 1
    return np.int64(1)


@kernel("parquet_strings")
def parquet_strings(t, n, k, args):
    """source, size, snappy, scratch, its size, offsets (room for n + 1), chars: the strings of a chunk's dictionary
    page. How many there are, or negative: given up."""
    header = p_i64(args[3])
    end = args[0] + args[1]
    body = _page_header(args[0], end, header)
    if body < 0 or header[np.uint64(1)] != DICTIONARY:
        return np.int64(-1)
    length, size, count = header[np.uint64(2)], header[np.uint64(3)], header[np.uint64(INNER + 1)]
    encoding = header[np.uint64(INNER + 2)]
    if size < 0 or size > end - body or count < 0 or count > n or encoding not in (PLAIN, PLAIN_DICTIONARY):
        return np.int64(-2)
    head = 8 * HEADER_WORDS
    at = _expanded(body, size, length, args[2] != 0, args[3] + head, args[4] - head)
    if at == 0:
        return np.int64(-3)
    stop, offsets, total = at + length, p_i64(args[5]), np.int64(0)
    for i in range(np.uint64(count)):
        offsets[i] = total
        if stop - at < 4 or np.int64(load_u32(at)) > stop - at - 4:
            return np.int64(-4)
        part = np.int64(load_u32(at))
        copy_bytes(args[6] + total, at + 4, part)
        at += 4 + part
        total += part
    offsets[np.uint64(count)] = total
    return count

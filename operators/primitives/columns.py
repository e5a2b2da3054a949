"""Reading columns: widening, gathering, validity; and writing results.

A source is given by address and stride; the address is moved by ``t * stride``. Index vectors are uint32: selections
(relative to the tile, used with stride = width) or row numbers (absolute, stride 0).
"""

# mypy: ignore-errors
from __future__ import annotations

import numpy as np

from finequery.operators.intrinsics import POINTER, copy_bytes, p_f32, p_f64, p_i64, p_u8, p_u32
from finequery.operators.primitives import kernel

UNSIGNED = {"u8": np.uint8, "u16": np.uint16, "u32": np.uint32}


def _define(source: str, pointer) -> None:
    @kernel(f"widen_{source}")
    def widen(t, n, k, args):
        """source, stride, base, scale, out: out = base + scale * x"""
        x, base, scale, out = pointer(args[0] + t * args[1]), args[2], args[3], p_i64(args[4])
        for j in range(np.uint64(k)):
            out[j] = base + scale * np.int64(x[j])
        return k

    @kernel(f"gather_widen_{source}")
    def gather_widen(t, n, k, args):
        """source, stride, index, base, scale, out"""
        x, index = pointer(args[0] + t * args[1]), p_u32(args[2])
        base, scale, out = args[3], args[4], p_i64(args[5])
        for j in range(np.uint64(k)):
            out[j] = base + scale * np.int64(x[index[j]])
        return k

    if source != "i64":

        @kernel(f"digits_{source}")
        def digits(t, n, k, args):
            """source, stride, shift, out (u32): out = x - shift, for codes and dense keys"""
            x, shift, out = pointer(args[0] + t * args[1]), np.uint32(args[2]), p_u32(args[3])
            for j in range(np.uint64(k)):
                out[j] = np.uint32(x[j]) - shift
            return k

        @kernel(f"gather_digits_{source}")
        def gather_digits(t, n, k, args):
            """source, stride, index, shift, out (u32)"""
            x, index, shift, out = pointer(args[0] + t * args[1]), p_u32(args[2]), np.uint32(args[3]), p_u32(args[4])
            for j in range(np.uint64(k)):
                out[j] = np.uint32(x[index[j]]) - shift
            return k


for _name in ("u8", "u16", "u32", "i64"):
    _define(_name, POINTER[_name])


@kernel("load_f32")
def load_f32(t, n, k, args):
    """source, stride, out (f64)"""
    x, out = p_f32(args[0] + t * args[1]), p_f64(args[2])
    for j in range(np.uint64(k)):
        out[j] = np.float64(x[j])
    return k


@kernel("gather_f32")
def gather_f32(t, n, k, args):
    """source, stride, index, out (f64)"""
    x, index, out = p_f32(args[0] + t * args[1]), p_u32(args[2]), p_f64(args[3])
    for j in range(np.uint64(k)):
        out[j] = np.float64(x[index[j]])
    return k


def _define_gather(width: int, name: str) -> None:
    pointer = POINTER[name]

    @kernel(f"gather_{width}")
    def gather(t, n, k, args):
        """source, stride, index, out"""
        x, index, out = pointer(args[0] + t * args[1]), p_u32(args[2]), pointer(args[3])
        for j in range(np.uint64(k)):
            out[j] = x[index[j]]
        return k

    @kernel(f"store_{width}")
    def store(t, n, k, args):
        """source, stride, address of the output's address, address of the cursor: append k values at the cursor"""
        x, out = pointer(args[0] + t * args[1]), pointer(p_i64(args[2])[0] + p_i64(args[3])[0] * width)
        for j in range(np.uint64(k)):
            out[j] = x[j]
        return k

    @kernel(f"store_gather_{width}")
    def store_gather(t, n, k, args):
        """source, stride, index, address of the output's address, address of the cursor"""
        x, index = pointer(args[0] + t * args[1]), p_u32(args[2])
        out = pointer(p_i64(args[3])[0] + p_i64(args[4])[0] * width)
        for j in range(np.uint64(k)):
            out[j] = x[index[j]]
        return k


for _width, _name in ((1, "u8"), (2, "u16"), (4, "u32"), (8, "u64")):
    _define_gather(_width, _name)


def _define_copy(width: int, name: str) -> None:
    pointer = POINTER[name]

    @kernel(f"copy_{width}")
    def copy(t, n, k, args):
        """source, stride, out"""
        x, out = pointer(args[0] + t * args[1]), pointer(args[2])
        for j in range(np.uint64(k)):
            out[j] = x[j]
        return k


for _width, _name in ((1, "u8"), (8, "u64")):
    _define_copy(_width, _name)


@kernel("gather_16")
def gather_16(t, n, k, args):
    x, index, out = p_i64(args[0] + t * args[1]), p_u32(args[2]), p_i64(args[3])
    for j in range(np.uint64(k)):
        i = np.uint64(index[j])
        out[j + j] = x[i + i]
        out[j + j + np.uint64(1)] = x[i + i + np.uint64(1)]
    return k


@kernel("copy_16")
def copy_16(t, n, k, args):
    x, out = p_i64(args[0] + t * args[1]), p_i64(args[2])
    for j in range(np.uint64(k + k)):
        out[j] = x[j]
    return k


@kernel("store_16")
def store_16(t, n, k, args):
    x, out = p_i64(args[0] + t * args[1]), p_i64(p_i64(args[2])[0] + p_i64(args[3])[0] * 16)
    for j in range(np.uint64(k + k)):
        out[j] = x[j]
    return k


def _define_narrow(target: str) -> None:
    pointer, cast = POINTER[target], UNSIGNED[target]
    width = {"u8": 1, "u16": 2, "u32": 4}[target]

    @kernel(f"store_narrow_{target}")
    def store_narrow(t, n, k, args):
        """source (i64), base, address of the output's address, address of the cursor: append x - base, narrowed"""
        x, base = p_i64(args[0]), args[1]
        out = pointer(p_i64(args[2])[0] + p_i64(args[3])[0] * width)
        for j in range(np.uint64(k)):
            out[j] = cast(x[j] - base)
        return k

    @kernel(f"store_digits_{target}")
    def store_digits(t, n, k, args):
        """source (u32), address of the output's address, address of the cursor"""
        x = p_u32(args[0])
        out = pointer(p_i64(args[1])[0] + p_i64(args[2])[0] * width)
        for j in range(np.uint64(k)):
            out[j] = cast(x[j])
        return k


for _name in UNSIGNED:
    _define_narrow(_name)


@kernel("store_f32")
def store_f32(t, n, k, args):
    """source (f64), address of the output's address, address of the cursor"""
    x, out = p_f64(args[0]), p_f32(p_i64(args[1])[0] + p_i64(args[2])[0] * 4)
    for j in range(np.uint64(k)):
        out[j] = np.float32(x[j])
    return k


@kernel("reserve")
def reserve(t, n, k, args):
    """state of the output of this thread: rows, capacity, cursor; -1 (no room: the host grows it) before any change"""
    state = p_i64(args[0])
    if state[0] + k > state[1]:
        return np.int64(-1)
    state[2] = state[0]
    state[0] += k
    return k


@kernel("cursor_at_tile")
def cursor_at_tile(t, n, k, args):
    """state of the output: rows keep their places, so the cursor is the tile's start"""
    state = p_i64(args[0])
    state[2] = t
    state[0] += k
    return k


@kernel("string_bytes")
def string_bytes(t, n, k, args):
    """strings (address, length), validity or 0, state (used, capacity, cursor): room for their bytes, or -1"""
    x, state, total = p_i64(args[0]), p_i64(args[2]), np.int64(0)
    for j in range(np.uint64(k)):
        total += x[j + j + np.uint64(1)]
    if state[0] + total > state[1]:
        state[3] = total
        return np.int64(-1)
    state[2] = state[0]
    state[0] += total
    return k


@kernel("store_string")
def store_string(t, n, k, args):
    """strings, chars (address of address), its state, lengths (address of address), cursor: append bytes and lengths"""
    x, target, state = p_i64(args[0]), p_i64(args[1])[0], p_i64(args[2])
    lengths = p_i64(p_i64(args[3])[0] + p_i64(args[4])[0] * 8)
    target += state[2]
    for j in range(np.uint64(k)):
        size = x[j + j + np.uint64(1)]
        copy_bytes(target, x[j + j], size)
        target += size
        lengths[j] = size
    return k


@kernel("views")
def views(t, n, k, args):
    """offsets (int64), stride, chars, out: strings as (address, length)"""
    offsets, chars, out = p_i64(args[0] + t * args[1]), args[2], p_i64(args[3])
    for j in range(np.uint64(k)):
        out[j + j] = chars + offsets[j]
        out[j + j + np.uint64(1)] = offsets[j + np.uint64(1)] - offsets[j]
    return k


@kernel("gather_views")
def gather_views(t, n, k, args):
    """offsets, stride, chars, index, out"""
    offsets, chars, index, out = p_i64(args[0] + t * args[1]), args[2], p_u32(args[3]), p_i64(args[4])
    for j in range(np.uint64(k)):
        i = np.uint64(index[j])
        out[j + j] = chars + offsets[i]
        out[j + j + np.uint64(1)] = offsets[i + np.uint64(1)] - offsets[i]
    return k


@kernel("valid")
def valid(t, n, k, args):
    """bitmap, 1 where rows are relative to the tile else 0, out (u8): dense"""
    bitmap, first, out = p_u8(args[0]), np.uint64(t * args[1]), p_u8(args[2])
    for j in range(np.uint64(k)):
        i = first + j
        out[j] = (bitmap[i >> np.uint64(3)] >> np.uint8(i & np.uint64(7))) & np.uint8(1)
    return k


@kernel("gather_valid")
def gather_valid(t, n, k, args):
    """bitmap, 1 or 0 as for valid, index, out"""
    bitmap, first, index, out = p_u8(args[0]), np.uint64(t * args[1]), p_u32(args[2]), p_u8(args[3])
    for j in range(np.uint64(k)):
        i = first + np.uint64(index[j])
        out[j] = (bitmap[i >> np.uint64(3)] >> np.uint8(i & np.uint64(7))) & np.uint8(1)
    return k


@kernel("row_numbers")
def row_numbers(t, n, k, args):
    """out (u32), index or 0: the table row of each row"""
    out = p_u32(args[0])
    if args[1] == 0:
        for j in range(np.uint64(k)):
            out[j] = np.uint32(t) + np.uint32(j)
    else:
        index = p_u32(args[1])
        for j in range(np.uint64(k)):
            out[j] = np.uint32(t) + index[j]
    return k

"""Columns joined end to end on the GPU: the copying of ``operators.concat``, which decides the encoding that all rows
get. Each part is written into its place of the whole by a kernel of its own; what comes out stays on the device for the
kernels that read it next."""

# mypy: ignore-errors
# ruff: noqa: F821
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators.column import ColumnData
from finequery.operators.cuda.functions import bit
from finequery.operators.cuda.launch import launch
from finequery.operators.cuda.scan import exclusive_scan
from finequery.operators.encode_kernels import exact_division


def exact(device: Any, pieces: list[ColumnData], kind: str, dtype: np.dtype, base: int, scale: int) -> np.ndarray:
    """Stored values in one layout (``encode.layout``) of columns of exact types."""
    per_row = 2 if kind == "int128" else 1
    out = _whole(device, pieces, per_row, np.int64 if kind == "int128" else dtype)
    shift, inverse = exact_division(scale)
    kept = -1 if kind == "int64" else (1 << 64 - shift) - 1  # a difference is shifted without its sign
    division = np.int64(shift), np.int64(inverse), _wrapped(kept)
    for piece, part in _parts(pieces, out, per_row):
        wide = piece.kind == "int128"
        source = device.view(piece.data.view(np.int64) if wide else piece.data)
        valid = _valid(device, piece)
        if kind != "int128":
            numbers = np.int64(1 + wide), _wrapped(piece.scale), _wrapped(piece.base - base)
            launch(recode, device, piece.length, *numbers, *division, *valid, source, part)
        elif wide:
            launch(copy_words, device, 2 * piece.length, 2, *valid, source, part)
        else:
            numbers = _wrapped(piece.scale), _wrapped(piece.base)
            launch(widen, device, piece.length, *numbers, *valid, source, part)
    return device.to_host(out, keep=True).view(dtype)


def plain(device: Any, pieces: list[ColumnData], per_row: int) -> np.ndarray:
    """The words of columns whose rows all have the same form already: floats, intervals."""
    dtype = pieces[0].data.dtype
    item = np.dtype(f"u{dtype.itemsize}")
    out = _whole(device, pieces, per_row, item)
    for piece, part in _parts(pieces, out, per_row):
        source = device.view(piece.data.view(item))
        launch(copy_words, device, piece.length * per_row, per_row, *_all(device), source, part)
    return device.to_host(out, keep=True).view(dtype)


def codes(device: Any, pieces: list[ColumnData], maps: list[np.ndarray | None], dtype: np.dtype) -> np.ndarray:
    """Codes of one dictionary. ``maps``: what becomes of each column's own, None where they stay."""
    out = _whole(device, pieces, 1, dtype)
    for (piece, part), table in zip(_parts(pieces, out, 1), maps):
        source = device.view(piece.data)
        if table is None:
            launch(copy_words, device, piece.length, 1, *_all(device), source, part)
        else:
            new = memory.array(len(table), dtype)
            new[:] = table
            launch(translate, device, piece.length, *_valid(device, piece), device.view(new), source, part)
    return device.to_host(out, keep=True)


def texts(device: Any, pieces: list[ColumnData]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and bytes of strings, whether their columns have dictionaries or not."""
    rows = sum(piece.length for piece in pieces)
    starts = device.empty(rows + 1, np.int64, "result")
    for piece, part in _parts(pieces, starts, 1, 1):
        if piece.dictionary is None:
            launch(text_sizes, device, part.size, device.view(piece.data), part)
        else:
            offsets = device.view(piece.dictionary.offsets)
            launch(coded_sizes, device, part.size, *_valid(device, piece), offsets, device.view(piece.data), part)
    size = int(device.to_host(exclusive_scan(device, starts))[0])
    chars = device.empty(size, np.uint8, "result")
    for piece, part in _parts(pieces, starts, 1, 1):
        if piece.dictionary is None:
            first, last = int(piece.data[0]), int(piece.data[piece.length])
            if last > first:
                launch(copy_bytes, device, last - first, first, part, device.view(piece.chars), chars)
        elif size:
            source = device.view(piece.dictionary.offsets), device.view(piece.dictionary.chars)
            launch(coded_bytes, device, piece.length, *source, device.view(piece.data), part, chars)
    return device.to_host(starts, keep=True), device.to_host(chars, keep=True)


def validity(device: Any, pieces: list[ColumnData]) -> tuple[np.ndarray, int]:
    """The bitmap of all rows, in whole words, and its NULLs."""
    rows, start = sum(piece.length for piece in pieces), 0
    bits = device.zeros((rows + 63) // 64 * 8, np.uint8, "result")
    nulls = device.zeros(1, np.int64, "counters")
    for piece in pieces:
        launch(join_bits, device, piece.length, start, *_valid(device, piece), bits, nulls)
        start += piece.length
    return device.to_host(bits, keep=True), int(device.to_host(nulls)[0])


def _whole(device: Any, pieces: list[ColumnData], per_row: int, dtype: Any) -> Any:
    return device.empty(sum(piece.length for piece in pieces) * per_row, dtype, "result")


def _parts(pieces: list[ColumnData], out: Any, per_row: int, more: int = 0) -> Iterator[tuple[ColumnData, Any]]:
    """The columns, each with its part of the whole and so many values behind that."""
    start = 0
    for piece in pieces:
        end = start + piece.length * per_row
        yield piece, out[start : end + more]
        start = end


def _all(device: Any) -> tuple[int, Any]:
    """``_valid`` where no row is to be looked up."""
    return 0, device.empty(1, np.uint8)


def _valid(device: Any, piece: ColumnData) -> tuple[int, Any]:
    """Whether there is a bitmap, and that."""
    return _all(device) if piece.validity is None else (1, device.view(piece.validity.view(np.uint8)))


def _wrapped(value: int) -> np.int64:
    """A number modulo 2**64."""
    return np.int64((value + 2**63) % 2**64 - 2**63)


def recode(n, step, factor, more, shift, inverse, kept, masked, valid, source, out):
    """Stored values from one form to another, modulo 2**64: times its scale, plus the difference of the bases, divided
    by the other scale (which is exact: a shift, and a product with the inverse of what is odd); 0 for NULL."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(0)
        if masked == 0 or bit(valid, i) != 0:
            value = (((np.int64(source[i * step]) * factor + more) >> shift) & kept) * inverse
        out[i] = value


def widen(n, factor, base, masked, valid, source, out):
    """Values of 128 bits, of stored ones; 0 for NULL."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        value = np.int64(0)
        if masked == 0 or bit(valid, i) != 0:
            value = np.int64(source[i]) * factor + base
        out[2 * i] = value
        out[2 * i + 1] = value >> np.int64(63)


def copy_words(n, per_row, masked, valid, source, out):
    """Words of rows as they are, or as wider ones; 0 for NULL."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if masked == 0 or bit(valid, i // per_row) != 0:
            out[i] = source[i]
        else:
            out[i] = 0


def translate(n, masked, valid, table, source, out):
    """Codes by a table; 0 for NULL, whose code need not be in it."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if masked == 0 or bit(valid, i) != 0:
            out[i] = table[source[i]]
        else:
            out[i] = 0


def text_sizes(n, offsets, sizes):
    """Bytes of each string, and 0 behind the last."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        size = np.int64(0)
        if i < n - 1:
            size = offsets[i + 1] - offsets[i]
        sizes[i] = size


def coded_sizes(n, masked, valid, offsets, codes, sizes):
    """Bytes of each code's string, 0 for NULL and behind the last."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        size = np.int64(0)
        if i < n - 1 and (masked == 0 or bit(valid, i) != 0):
            code = np.int64(codes[i])
            size = offsets[code + 1] - offsets[code]
        sizes[i] = size


def copy_bytes(n, first, starts, chars, out):
    """Bytes from ``first`` on, to where the first string starts."""
    start = starts[0]
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        out[start + i] = chars[first + i]


def coded_bytes(n, offsets, chars, codes, starts, out):
    """Copy each code's string to where it starts; that of NULL has no bytes there."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        start, size = starts[i], starts[i + 1] - starts[i]
        if size != 0:
            source = offsets[np.int64(codes[i])]
            for s in range(size):
                out[start + s] = chars[source + s]


def join_bits(n, start, masked, valid, out, nulls):
    """Bits of rows ``start`` and on. A thread has a byte of eight rows; the rows before ``start`` of the first byte are
    there since the launch for the part before."""
    lost, end = np.int64(0), start + n
    for place in range((start >> 3) + cuda.grid(1), (end + 7) >> 3, cuda.gridsize(1)):
        low = max(8 * place, start)
        byte = np.uint32(0)
        if low != 8 * place:
            byte = np.uint32(out[place])
        for row in range(low, min(8 * place + 8, end)):
            one = np.uint32(1)
            if masked != 0:
                one = np.uint32(bit(valid, row - start))
            byte |= np.uint32(one << np.uint32(row & 7))
            lost += np.int64(1) - np.int64(one)
        out[place] = np.uint8(byte)
    if lost != 0:
        cuda.atomic.add(nulls, 0, lost)

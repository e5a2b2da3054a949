"""Strings to columns: a sorted dictionary where values repeat, offsets and bytes where they don't."""

from __future__ import annotations

from typing import Any

import numpy as np

from finequery.jetson import memory
from finequery.operators import dictionary as dictionaries
from finequery.operators import encode_kernels as kernels
from finequery.operators.arrow_arrays import of_numpy, scalar
from finequery.operators.column import ColumnData, Dictionary, Stats
from finequery.operators.encode import finish, mask_of, slices, validity_of
from finequery.operators.threads import parallel, size
from finequery.types import VARCHAR

_SAMPLE = 65536
_FIRST = 4096
_SMALL = 1024  # dictionaries up to this size are always worth it
_LARGE = 65536  # no dictionary has more values


def largest_dictionary(rows: int) -> int:
    """How many distinct values a dictionary for ``rows`` rows may have."""
    return max(_SMALL, min(_LARGE, rows // 4))


def encode_strings(arrays: list[Any], rows: int, part: bool, plain: bool = False) -> ColumnData:
    """A VARCHAR column of Arrow string, large_string or dictionary arrays (non-empty, not all NULL)."""
    import pyarrow as pa

    coded = all(isinstance(a, pa.DictionaryArray) for a in arrays)
    column = None
    if coded or (not plain and _repeats(arrays, rows)):
        column = _with_dictionary(arrays, rows, largest_dictionary(rows), part)
    if column is None:
        decoded = [a.dictionary_decode() if isinstance(a, pa.DictionaryArray) else a for a in arrays]
        column = _borrowed(decoded[0], rows) if part and len(decoded) == 1 else encode_plain(decoded, rows)
    return column if part else finish(column)


def _repeats(arrays: list[Any], rows: int) -> bool:
    """Whether a sample of the rows holds few enough different values for a dictionary to be tried."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def distinct(most: int) -> tuple[int, int]:
        """Distinct values and rows of a sample: eight stretches of each array, so that clusters don't mislead."""
        step = max(1, rows // most)
        parts = []
        for array in arrays:
            stretch = max(1, len(array) // step // 8)
            for start in range(0, len(array), max(1, len(array) // 8)):
                parts.append(array.slice(start, stretch))
        values = [p.dictionary_decode() if isinstance(p, pa.DictionaryArray) else p for p in parts]
        chunks = pa.chunked_array([v.cast(pa.large_string()) for v in values])
        return pc.count_distinct(chunks).as_py(), len(chunks)

    found, taken = distinct(_FIRST)
    if found > _SMALL and found > 0.9 * taken:  # all different, as names and comments are: no need to look further
        return False
    found, taken = distinct(_SAMPLE)
    return found <= max(_SMALL, taken // 2)


def _with_dictionary(arrays: list[Any], rows: int, most: int, part: bool) -> ColumnData | None:
    """Codes and a sorted dictionary, or None where that has more than ``most`` values."""
    import pyarrow as pa

    def encode(task: tuple[Any, int]) -> tuple[Any, int]:
        chunk, start = task
        return (chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()), start

    tasks = slices(arrays)
    encoded: list[tuple[Any, int]] = []
    wave = 2 * size()
    for at in range(0, len(tasks), wave):  # in waves, to give up early
        encoded += parallel(encode, tasks[at : at + wave])
        if sum(len(c.dictionary) for c, _ in encoded) > most and _too_many([c for c, _ in encoded], most):
            return None
    values: list[Any] = []  # distinct dictionary arrays, by the address of their buffers
    place: dict[tuple[int, int, int], int] = {}
    where: list[int] = []
    for chunk, _ in encoded:
        item = chunk.dictionary
        key = _identity(item)
        if key not in place:
            place[key] = len(values)
            values.append(item.cast(pa.large_string()))
        where.append(place[key])
    dictionary, codes = dictionaries.build(pa.concat_arrays(values))
    if len(dictionary) > most:
        return None
    ends = np.cumsum([len(v) for v in values])
    maps = np.split(codes, ends[:-1])
    if not part:
        dictionary, maps = _used_only(dictionary, maps, [c for c, _ in encoded], where)
    validity, nulls = validity_of([c for c, _ in encoded], rows)
    data = memory.array(rows, dictionaries.code_type(len(dictionary)))

    def store(item: tuple[Any, int, int]) -> None:
        chunk, start, which = item
        target = data[start : start + len(chunk)]
        mask = mask_of(chunk)
        indices = dictionaries.numbers(chunk.indices)
        if len(maps[which]) == 0:
            target[:] = 0
            return
        kernels.remap(indices if mask is None else indices * mask, maps[which], target)
        if mask is not None:
            target *= mask

    parallel(store, [(chunk, start, which) for (chunk, start), which in zip(encoded, where)])
    stats = Stats(nulls=nulls, ascii=dictionary.ascii)
    if nulls == 0 and len(data):
        stats.sorted, stats.unique = order_of(data)
    return ColumnData(VARCHAR, "dict", rows, data, validity=validity, dictionary=dictionary, stats=stats)


def _identity(dictionary: Any) -> tuple[int, int, int]:
    """Equal for dictionaries that share their memory, as those of one chunked array usually do."""
    offsets = dictionary.buffers()[1]
    return offsets.address if offsets else 0, dictionary.offset, len(dictionary)


def _too_many(encoded: list[Any], most: int) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    different = {_identity(chunk.dictionary): chunk.dictionary.cast(pa.large_string()) for chunk in encoded}
    return pc.count_distinct(pa.chunked_array(list(different.values()))).as_py() > most


def _used_only(
    dictionary: Dictionary, maps: list[np.ndarray], chunks: list[Any], where: list[int]
) -> tuple[Dictionary, list[np.ndarray]]:
    """Drop values that no row has (a sliced or filtered dictionary column), so that the size is the distinct count."""
    used = np.zeros(len(dictionary), np.bool_)
    for chunk, which in zip(chunks, where):
        if not used.all():
            indices = dictionaries.numbers(chunk.indices.drop_null())
            used[maps[which][indices]] = True
    if used.all():
        return dictionary, maps

    kept = dictionaries.to_arrow(dictionary).filter(of_numpy(used))
    new = np.maximum(np.cumsum(used) - 1, 0).astype(np.uint32)
    return dictionaries.from_sorted(kept), [new[m] for m in maps]


def order_of(stored: np.ndarray) -> tuple[bool, bool]:
    """Whether stored values ascend, and whether they do strictly."""
    found = kernels.measure(stored, True)
    return found.ascending, found.strict


def encode_plain(arrays: list[Any], rows: int) -> ColumnData:
    """Offsets and bytes. Nothing is kept of the arrays."""
    validity, nulls = validity_of(arrays, rows)
    sources: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    start = total = 0
    for array in arrays:
        offsets, chars = _tidy(array)
        sources.append((offsets, chars, start, total))
        start += len(array)
        total += int(offsets[-1] - offsets[0])
    data = memory.array(rows + 1, np.int64)
    text = memory.array(total, np.uint8)
    data[0] = 0

    def store(source: tuple[np.ndarray, np.ndarray, int, int]) -> bool:
        offsets, chars, row, byte = source
        first, last = int(offsets[0]), int(offsets[-1])
        np.add(offsets[1:], byte - first, out=data[row + 1 : row + len(offsets)], dtype=np.int64)
        target = text[byte : byte + last - first]
        target[:] = chars[first:last]
        return dictionaries.is_ascii(target)

    plain = all(parallel(store, sources))
    stats = Stats(nulls=nulls, ascii=plain)
    return ColumnData(VARCHAR, "string", rows, data, validity=validity, chars=text, stats=stats)


def _borrowed(array: Any, rows: int) -> ColumnData:
    """A part over Arrow's own memory: it is copied once, when the parts are joined."""
    offsets, chars = _tidy(array)
    validity, nulls = validity_of([array], rows)
    stats = Stats(nulls=nulls, ascii=dictionaries.is_ascii(chars[offsets[0] : offsets[-1]]))
    data = offsets.astype(np.int64, copy=False)
    return ColumnData(VARCHAR, "string", rows, data, validity=validity, chars=chars, stats=stats, owner=array)


def _tidy(array: Any) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and bytes in which NULL rows take no bytes."""
    offsets, chars = dictionaries.string_parts(array)
    mask = mask_of(array)
    if mask is not None and bool(np.diff(offsets)[~mask].any()):
        return dictionaries.string_parts(array.fill_null(scalar("", array.type)))
    return offsets, chars

"""Casts between all types: of one value (folding, parameters) and of whole Arrow arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finequery.errors import ConversionError, NotSupportedError
from finequery.operators.arrow_arrays import of_numpy, scalar
from finequery.operators.arrow_types import to_arrow
from finequery.operators.calendar import DAY
from finequery.operators.host_arrays import from_physical, to_physical, to_text
from finequery.operators.host_text import LIMITS, format_value, parse, round_half_away, single
from finequery.types import SqlType

if TYPE_CHECKING:
    import pyarrow as pa

_FORMS = {
    "DATE": "A date is written as 'YYYY-MM-DD'.",
    "TIMESTAMP": "A timestamp is written as 'YYYY-MM-DD HH:MM:SS[.ffffff]'.",
    "TIMESTAMP WITH TIME ZONE": "A timestamp is written as 'YYYY-MM-DD HH:MM:SS[.ffffff][+HH[:MM]]'.",
    "INTERVAL": "An interval is written as '1 day 2 hours'.",
    "BOOLEAN": "A boolean is written as 'true' or 'false'.",
}


def castable(source: SqlType, target: SqlType) -> bool:
    """Whether there is a cast between the types at all."""
    if source == target or source.name == "NULL" or "VARCHAR" in (source.name, target.name):
        return True
    plain = [t.is_numeric or t.name == "BOOLEAN" for t in (source, target)]
    return all(plain) or (source.is_temporal and target.is_temporal)


def failure(value: Any, source: SqlType, target: SqlType) -> ConversionError:
    """The error for one value."""
    if source.is_string:
        text = value if len(value) <= 60 else value[:60] + "…"
        hint = f"{_FORMS.get(target.name, '')} TRY_CAST gives NULL instead."
        return ConversionError(f"Could not convert '{text}' to {target}.", hint=hint.strip())
    return ConversionError(
        f"The {source} {format_value(value, source)} does not fit {target}.",
        hint="Cast to a wider type, or use TRY_CAST for NULL instead.",
    )


def cast_constant(value: Any, source: SqlType, target: SqlType, safe: bool = False) -> Any:
    """One physical value (None: NULL) as another type; ``safe``: NULL instead of an error."""
    if value is None or source == target:
        return value
    result = converter(source, target)(value)
    if result is None and not safe:
        raise failure(value, source, target)
    return result


def converter(source: SqlType, target: SqlType) -> Callable[[Any], Any]:
    """The cast of one non-NULL value; the function gives None where the value does not fit."""
    if not castable(source, target):
        raise NotSupportedError(f"{source} can't be cast to {target}.")
    if source.is_string:
        return lambda text: parse(text, target)
    if target.is_string:
        return lambda value: format_value(value, source)
    if target.name == "BOOLEAN":
        return lambda value: value != 0
    if source.is_timestamp and target.is_timestamp:
        return lambda micros: micros
    if source.is_temporal or target.is_temporal:
        if target.name == "DATE":
            return lambda micros: micros // DAY
        return lambda days: _within(days * DAY, target)
    if target.is_float:
        return _to_float(source, target)
    if source.is_float:
        return lambda value: _from_float(value, target)
    if source.scale > target.scale:
        divisor = 10 ** (source.scale - target.scale)
        return lambda value: _within(round_half_away(value, divisor), target)
    factor = 10 ** (target.scale - source.scale)
    return lambda value: _within(int(value) * factor, target)


def _within(value: int, target: SqlType) -> int | None:
    low, high = LIMITS.get(target.name) or target.limits
    return value if low <= value <= high else None


def _to_float(source: SqlType, target: SqlType) -> Callable[[Any], Any]:
    if source.is_float:
        if target.name == "DOUBLE":
            return float
        return lambda value: None if math.isinf(single(value)) and not math.isinf(value) else single(value)
    divisor = 10**source.scale

    def convert(value: int) -> float:
        number = float(value) / divisor  # as the kernels compute it
        return single(number) if target.name == "FLOAT" else number

    return convert


def _from_float(value: float, target: SqlType) -> int | None:
    if not math.isfinite(value):
        return None
    if not target.is_decimal:
        return _within(round(value), target)  # half to even
    scaled = value * float(10**target.scale)
    if not math.isfinite(scaled):
        return None
    whole = math.trunc(scaled)
    return _within(whole + ((abs(scaled - whole) >= 0.5) and (1 if scaled > 0 else -1)), target)


# --- whole arrays ----------------------------------------------------------------------------------------------------

#: Text that Arrow's own parsers read as DuckDB does; other text goes value by value.
_PLAIN_TEXT = {
    "integer": r"\A[-]?[0-9]{1,18}\z",
    "float": r"\A[-]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?\z",
    "DATE": r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\z",
}


def cast_host(array: pa.Array, source: SqlType, target: SqlType, safe: bool = False) -> pa.Array:
    """A whole array cast; each different text is parsed once."""
    import pyarrow as pa

    if source == target:
        return array
    if source.name == "NULL":
        return pa.nulls(len(array), to_arrow(target))
    if not castable(source, target):
        raise NotSupportedError(f"{source} can't be cast to {target}.")
    fast = _cast_by_arrow(array, source, target)
    if fast is not None:
        return fast
    convert = converter(source, target)
    if source.is_string:
        coded = to_text(array).dictionary_encode()
        different = [_one(convert, v, source, target, safe) for v in coded.dictionary.to_pylist()]
        return from_physical(different, target).take(coded.indices)
    return from_physical([_one(convert, v, source, target, safe) for v in to_physical(array, source)], target)


def by_value(array: pa.Array, source: SqlType, target: SqlType) -> bool:
    """Whether ``cast_host`` calls a function of Python for every row."""
    plain = source == target or source.name == "NULL" or not castable(source, target)
    return not (plain or source.is_string) and _cast_by_arrow(array[:0], source, target) is None


def _one(convert: Callable[[Any], Any], value: Any, source: SqlType, target: SqlType, safe: bool) -> Any:
    if value is None:
        return None
    result = convert(value)
    if result is None and not safe:
        raise failure(value, source, target)
    return result


def _cast_by_arrow(array: pa.Array, source: SqlType, target: SqlType) -> pa.Array | None:
    """The cast by Arrow's kernels where they agree with DuckDB; None where they may not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if target.is_string:
        if (source.is_integer and source.name != "HUGEINT") or source.name == "BOOLEAN":
            return pc.cast(array, pa.string())
        if source.name == "DATE":
            bounds = pc.min_max(array.view(pa.int32()))
            if bounds["min"].as_py() is None or (bounds["min"].as_py() > -719162 and bounds["max"].as_py() < 2932897):
                return pc.cast(array, pa.string())  # years 1 to 9999
        if source.is_decimal and 0 < source.precision <= 18 and pa.types.is_decimal128(array.type):
            return _decimal_text(array, source)
        return None
    if source.is_timestamp and target.is_timestamp:
        return array.view(to_arrow(target))
    if not source.is_string:
        return None
    kind = "integer" if target.is_integer else "float" if target.name == "DOUBLE" else target.name
    if kind not in _PLAIN_TEXT or target.name == "HUGEINT":
        return None
    array = to_text(array)
    if pc.all(pc.match_substring_regex(array, _PLAIN_TEXT[kind])).as_py() is False:
        return None
    try:
        return pc.cast(array, to_arrow(target))
    except pa.ArrowInvalid:  # a value does not fit: find it one by one
        return None


def _decimal_text(array: pa.Array, source: SqlType) -> pa.Array:
    """Text of decimals that fit 64 bits."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = array.buffers()[1]
    words = np.frombuffer(raw, np.int64) if raw is not None else np.zeros(0, np.int64)
    values = words[2 * array.offset : 2 * (array.offset + len(array)) : 2]
    whole, part = np.divmod(np.abs(values), 10**source.scale)
    pieces: list[Any] = [pc.if_else(of_numpy(values < 0), *(scalar(sign, pa.string()) for sign in ("-", "")))]
    if source.precision > source.scale:
        pieces.append(pc.cast(of_numpy(whole), pa.string()))
    if source.scale:
        pieces += [scalar(".", pa.string()), pc.utf8_lpad(pc.cast(of_numpy(part), pa.string()), source.scale, "0")]
    text = pc.binary_join_element_wise(*pieces, scalar("", pa.string()))
    return pc.if_else(array.is_valid(), text, scalar(None, text.type)) if array.null_count else text

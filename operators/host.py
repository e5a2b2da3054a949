"""Functions outside the inner loops: evaluated over whole Arrow arrays by Arrow's kernels, else value by value.

An argument is an array, or a constant in physical form. Every scalar function of the registry can be computed here:
what the instructions of operators.scalar don't cover, or don't cover for these types, ends up here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from finequery.operators.arrow_arrays import of_numpy
from finequery.operators.arrow_types import from_arrow, to_arrow
from finequery.operators.host_arrays import from_physical, to_physical, to_text
from finequery.operators.host_strings import VECTOR
from finequery.operators.scalar_calls import NAMES, bind
from finequery.types import BIGINT, BOOLEAN, DOUBLE, INTERVAL, NULL, VARCHAR, Interval, SqlType

if TYPE_CHECKING:
    import pyarrow as pa

#: Rows that are worth a thread.
SLICE = 50_000


def evaluate(
    name: str,
    args: Sequence[Any],
    type_: SqlType,
    length: int,
    types: Sequence[SqlType] | None = None,
    threads: int = 1,
) -> pa.Array:
    """A function over ``length`` rows. ``types``: the arguments' SQL types; taken from the arrays and values where left
    out (an integer constant is then a BIGINT: say so if it is a DATE). Arrow's kernels run in ``threads`` threads."""
    import pyarrow as pa

    if types is None:
        types = [_type_of(a) for a in args]
    array_at = [i for i, a in enumerate(args) if _is_array(a)]
    if not array_at:
        value = bind(name, types, type_)(*args)
        one = from_physical([value], type_)
        return one.take(of_numpy(np.zeros(length, np.int64))) if length else one[:0]
    vector = _vector(name, types, array_at)
    if vector is not None:
        if any(a is None for a in args):
            return pa.nulls(length, to_arrow(type_))
        found = _in_threads(vector, [to_text(a) if i in array_at else a for i, a in enumerate(args)], threads)
        if found is not None:
            wanted = to_arrow(type_)
            text = type_.is_string and pa.types.is_large_string(found.type)
            return found if found.type == wanted or text else found.cast(wanted)
    function = bind(name, types, type_)
    columns = [to_physical(a, t) if i in array_at else repeat(a, length) for i, (a, t) in enumerate(zip(args, types))]
    return from_physical(list(map(function, *columns)), type_)


def by_value(name: str, args: Sequence[Any], types: Sequence[SqlType]) -> bool:
    """Whether ``evaluate`` calls a function of Python for every row."""
    array_at = [i for i, a in enumerate(args) if _is_array(a)]
    return bool(array_at) and _vector(name, types, array_at) is None


def _vector(name: str, types: Sequence[SqlType], array_at: list[int]) -> Callable[..., Any] | None:
    """The function over whole arrays, if there is one with arrays at these places."""
    texts = all(types[i].is_string for i in array_at)
    return VECTOR.get(name) if texts and (array_at[0] == 0 or name == "concat") else None


def _in_threads(vector: Callable[..., Any], args: list[Any], threads: int) -> pa.Array | None:
    """A VECTOR function over slices of its arrays at once: Arrow's kernels leave the GIL."""
    import pyarrow as pa

    rows = len(next(a for a in args if _is_array(a)))
    pieces = min(threads, rows // SLICE)
    if pieces < 2:
        return vector(*args)
    from concurrent.futures import ThreadPoolExecutor

    size = -(-rows // pieces)
    jobs = [[a.slice(at, size) if _is_array(a) else a for a in args] for at in range(0, rows, size)]
    with ThreadPoolExecutor(pieces) as pool:
        parts = list(pool.map(lambda job: vector(*job), jobs))
    if any(part is None for part in parts):  # ASCII in one slice, not in another
        return vector(*args)
    return pa.concat_arrays(parts)


def _is_array(value: Any) -> bool:
    return hasattr(value, "null_count")


def _type_of(value: Any) -> SqlType:
    if _is_array(value):
        return from_arrow(value.type)
    if value is None:
        return NULL
    for kind, type_ in ((bool, BOOLEAN), (int, BIGINT), (float, DOUBLE), (str, VARCHAR), (Interval, INTERVAL)):
        if isinstance(value, kind):
            return type_
    raise TypeError(f"{type(value).__name__} is no physical value")


#: The host functions by name, each called as (args, type, length).
HOST: dict[str, Callable[..., Any]] = {name: partial(evaluate, name) for name in sorted(NAMES)}
